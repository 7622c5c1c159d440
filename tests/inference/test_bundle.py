"""A bundle is used only if each of its files is the one that its manifest names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.inference import bundle
from src.inference.bundle import Bundle, BundleError, read_manifest
from tests.bundles import write_bundle

MANIFEST = bundle.MANIFEST
NETWORKS = [bundle.LOCALIZER, bundle.RECOGNIZER]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", threshold=0.7)


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the values of a manifest."""
    values = json.loads((folder / MANIFEST).read_text())
    edit(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def test_a_bundle_is_what_was_written(folder: Path) -> None:
    loaded = Bundle.load(folder)
    assert loaded.manifest.threshold == 0.7
    assert loaded.networks() == tuple((folder / name).read_bytes() for name in NETWORKS)
    assert not loaded.has_int8
    with pytest.raises(BundleError, match="does not contain int8 models"):
        loaded.networks(int8=True)
    assert loaded.manifest == read_manifest(folder) == Bundle.load(str(folder)).manifest
    assert bundle.manifest_text(loaded.manifest) == (folder / MANIFEST).read_text()
    with pytest.raises(AttributeError, match="immutable"):
        loaded.manifest.threshold = 0.1


def test_a_bundle_may_hold_networks_of_8_bits(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", int8=True)
    loaded = Bundle.load(folder)
    assert loaded.has_int8
    files = [bundle.INT8[name] for name in NETWORKS]
    assert loaded.networks(int8=True) == tuple((folder / name).read_bytes() for name in files)
    assert loaded.networks() != loaded.networks(int8=True)
    # Half of them are a damage.
    (folder / files[1]).unlink()
    with pytest.raises(BundleError, match=re.escape(files[1])):
        Bundle.load(folder)
    change(folder, lambda values: values["files"].pop(files[1]))
    with pytest.raises(BundleError, match=f"does not list {re.escape(files[1])}"):
        Bundle.load(folder)


def first_version(folder: Path) -> None:
    """Make a bundle one of version 1, in which some names were others."""

    def edit(values: dict[str, Any]) -> None:
        values["version"] = 1
        values["reader"] = values.pop("recognizer")
        del values["colours"]
        for now, before in ((bundle.RECOGNIZER, "reader.onnx"),
                            (bundle.INT8[bundle.RECOGNIZER], "reader.int8.onnx")):  # fmt: skip
            (folder / now).rename(folder / before)
            values["files"][before] = values["files"].pop(now)

    change(folder, edit)


def test_a_bundle_of_the_first_version_is_read(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", int8=True)
    now = Bundle.load(folder)
    first_version(folder)
    before = Bundle.load(folder)
    assert before.contents == now.contents
    assert before.manifest == now.manifest
    assert before.colours is None
    # What is written of it is of the present version.
    assert json.loads(bundle.manifest_text(before.manifest))["version"] == bundle.VERSION
    path = folder / "reader.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=re.escape(str(path))):
        Bundle.load(folder)


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: there is no bundle.*dvc repro export_stack"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("damage", ["one bit", "cut off", "longer", "missing", "the other one"])
def test_a_file_that_is_another_one(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    elif damage == "cut off":
        del content[-1:]
    elif damage == "longer":
        content += b"\0"
    elif damage == "the other one":
        content = bytearray((folder / NETWORKS[name == NETWORKS[0]]).read_bytes())
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert str(path) in str(caught.value)
    assert "dvc repro export_stack" in str(caught.value)


def test_no_runtime_sees_a_file_that_was_not_checked(folder: Path) -> None:
    """What is run is what was checked, though the file changes in between."""
    loaded = Bundle.load(folder)
    (folder / bundle.RECOGNIZER).write_bytes(b"something else")
    assert (
        bundle.file_entry(loaded.contents[bundle.RECOGNIZER])
        == loaded.manifest.files[bundle.RECOGNIZER]
    )


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda values: values.update(format="a car"), "not a bundle manifest"),
        (
            lambda values: values.update(version=3),
            "has version 3, but this program reads versions 1 and 2",
        ),
        (lambda values: values.pop("version"), "has version None"),
        (lambda values: values.pop("threshold"), "required field `threshold`"),
        (lambda values: values.update(threshold=1.5), r"<= 1.0.*\$\.threshold"),
        (lambda values: values.update(more=1), "unknown field `more`"),
        (
            lambda values: values["recognizer"].update(rectification="none"),
            r"\$\.recognizer\.rectification",
        ),
        (lambda values: values["localizer"].update(stride=0), r"\$\.localizer\.stride"),
        (lambda values: values["files"].pop("recognizer.onnx"), "does not list recognizer.onnx"),
        (
            lambda values: values["files"].update({"x.onnx": values["files"]["recognizer.onnx"]}),
            r"unknown files: \['x.onnx'\]",
        ),
        (lambda values: values["charset"].update(blank=35), "its classes differ from those"),
        (lambda values: values["calibration"].update(weights=[1]), "calibration cannot be used"),
    ],
)
def test_a_manifest_that_cannot_be_used(
    folder: Path, edit: Callable[[dict[str, Any]], Any], says: str
) -> None:
    change(folder, edit)
    with pytest.raises(BundleError, match=says) as caught:
        Bundle.load(folder)
    assert MANIFEST in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_damaged(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.load(folder)


def test_the_default_is_the_promoted_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(__file__).parents[2] / "models" == bundle.DEFAULT
    monkeypatch.setattr(bundle, "DEFAULT", tmp_path / "models")
    shutil.copytree(folder, tmp_path / "models")
    assert Bundle.load().path == tmp_path / "models"
