"""Videos among images that are read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from src.read.__main__ import main
from tests.bundles import scene, write_bundle
from tests.video.footage import empty, passing, write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("read") / "bundle")


def test_videos_give_events_in_the_order_of_the_paths(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in ("a.png", "b.mp4", "c.png", "d.mp4", "e.mp4")]
    cv2.imwrite(paths[0], scene("GE65432"))
    write_video(Path(paths[1]), passing("ZH123456"))
    cv2.imwrite(paths[2], scene("BE1"))
    write_video(Path(paths[3]), [empty()] * 5)
    Path(paths[4]).write_text("no video")
    status = main([*paths, "--json", "--model", str(model)])
    output, errors = capfd.readouterr()
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["path"] for row in rows] == paths
    assert [list(row)[1] for row in rows] == ["plates", "events", "plates", "events", "error"]
    assert rows[0]["plates"][0]["plate"] == "GE65432"
    (event,) = rows[1]["events"]
    assert (event["plate"], event["source"], event["direction"]) == ("ZH123456", paths[1], "right")
    assert rows[3]["events"] == []
    assert status == 1
    assert f"error: {paths[4]}: cannot be read as a video" in errors


def test_videos_give_lines_for_people(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "b.mp4", passing("ZH123456"))
    none = write_video(tmp_path / "d.mp4", [empty()] * 5)
    assert main([str(path), str(none), "--model", str(model)]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith(f"{path}: ZH 123456 (")
    assert second == f"{none}: no plate"


def test_a_minimum_confidence_is_that_of_events_too(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "b.mp4", passing("ZH123456"))
    assert main([str(path), "--min-confidence", "1", "--model", str(model)]) == 0
    assert capfd.readouterr().out == f"{path}: no plate\n"
