"""What is asked of sources, from a file and in its ranges."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from src.video.settings import Settings, SettingsError, load_sources, polygon


def test_a_file_names_sources_with_settings_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(
        '[gate]\nsource = "rtsp://camera/1"\nregions = [[10, 20, 30, 40]]\nmin_width = 60\n'
        '[yard]\nsource = "yard.mp4"\nfps = 3.0\n'
    )
    gate, yard = load_sources(path, Settings(delay=2.0))
    assert (gate.name, gate.location) == ("gate", "rtsp://camera/1")
    assert gate.settings == Settings(delay=2.0, regions=((10, 20, 30, 40),), min_width=60)
    assert yard.settings == Settings(delay=2.0, fps=3.0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "has no source"),
        ("[gate]\nfps = 3.0", "gate must be a table with source"),
        ("gate = 3", "gate must be a table with source"),
        ('[gate]\nsource = "a"\nfpss = 3', "fpss"),
        ('[gate]\nsource = "a"\nfps = 0', r"\[gate\].*fps"),
        ('[gate]\nsource = "a"\nregions = [[1, 2, 3]]', "at least three corners"),
        ('[gate]\nsource = "a"\nregions = [[9, 2, 3, 4]]', "no area"),
        ("[gate", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_explained(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=what) as error:
        load_sources(path, Settings())
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: there is no such file"):
        load_sources(tmp_path / "none.toml", Settings())


def test_a_rectangle_is_a_polygon() -> None:
    assert polygon((1, 2, 3, 4)).tolist() == [[1, 2], [3, 2], [3, 4], [1, 4]]
    assert polygon((0, 0, 4, 0, 2, 3)).tolist() == [[0, 0], [4, 0], [2, 3]]


def test_values_out_of_range_are_refused() -> None:
    for values in ({"fps": 0}, {"delay": 0}, {"min_confidence": 1.1}, {"min_width": -1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(values, Settings)
