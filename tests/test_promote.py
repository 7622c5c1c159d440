"""A bundle is promoted if it is what DVC records, and then it is the one that is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from src import bundle, promote
from src.bundle import Bundle, BundleError
from src.config import Config
from src.promote import changed_files, main
from src.stack.reader import PlateReader
from src.utils.stage import StageError
from tests.bundles import scene, write_bundle
from tests.standins import config_below

METRICS = {
    "val_acc": 0.99,
    "val_acc_95": {"low": 0.98, "high": 0.995},
    "by_height": {"0-10": {"accuracy": 0.5}},
    "clutter": {"with_text": 0.001, "by_kind": {}},
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a workspace in which everything is as it should be; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    config = config_below(tmp_path)
    write_bundle(config.out("models", "stack"), threshold=0.6)
    evaluation = config.out("evaluations", "stack")
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    monkeypatch.setattr(promote, "check_recorded", lambda: None)
    return config


def test_a_promoted_bundle_is_the_exported_one(config: Config) -> None:
    target = Path("models")
    target.mkdir()
    (target / "model_stack.mlem").write_text("something else that is kept here")
    main(config, target, hardware="8 GPUs")
    source, copy = Bundle.load(config.out("models", "stack")), Bundle.load(target)
    assert copy.contents == source.contents
    assert {path.name for path in target.iterdir()} == {
        "model_stack.mlem", *copy.manifest.files, bundle.MANIFEST,
    }  # fmt: skip
    assert copy.manifest.metrics["evaluate_stack"] == {
        "val_acc": 0.99,
        "val_acc_95": {"low": 0.98, "high": 0.995},
        "clutter": {"with_text": 0.001},
    }
    assert copy.manifest.hardware == {"training": "8 GPUs"}
    assert copy.manifest.dvc_lock is not None
    changed = ("metrics", "hardware", "dvc_lock", "git_revision")
    same = {name: getattr(source.manifest, name) for name in changed}
    assert msgspec.structs.replace(copy.manifest, **same) == source.manifest
    (plate,) = PlateReader.load(target, "onnxruntime", 1).read(scene("BE1"))
    assert plate.plate == "BE1"
    # Once more, over the first one.
    main(config, target)
    assert Bundle.load(target).manifest.hardware == {}


def test_a_damaged_bundle_is_not_promoted(config: Config) -> None:
    (config.out("models", "stack") / bundle.READER).write_bytes(b"other")
    with pytest.raises(BundleError, match=r"reader\.onnx"):
        main(config, Path("models"))
    assert not Path("models").exists()


def test_a_large_bundle_is_not_promoted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promote, "LARGEST", 1000)
    with pytest.raises(StageError, match="1,000 are allowed"):
        main(config, Path("models"))
    assert not Path("models").exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_a_bundle_that_was_not_evaluated_is_not_promoted(
    config: Config, content: str | None
) -> None:
    path = config.out("evaluations", "stack") / "metrics.json"
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(StageError, match=r"metrics\.json.*dvc repro evaluate_stack"):
        main(config, Path("models"))
    assert not Path("models").exists()


def test_a_copy_that_is_cut_short_is_not_used(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(config, Path("models"))
    other = write_bundle(config.out("models", "stack"), threshold=0.6)
    # Another reader: as a new training makes it.
    content = (other / bundle.READER).read_bytes().replace(b"reader", b"READER")
    (other / bundle.READER).write_bytes(content)
    manifest = Bundle.load(Path("models")).manifest
    files = {**manifest.files, bundle.READER: bundle.file_entry(content)}
    text = bundle.manifest_text(msgspec.structs.replace(manifest, files=files))
    (other / bundle.MANIFEST).write_text(text)
    replace = promote._replace

    def full(path: Path, content: bytes) -> None:
        if path.name == bundle.MANIFEST:
            raise OSError(28, "No space left on device")
        replace(path, content)

    monkeypatch.setattr(promote, "_replace", full)
    with pytest.raises(StageError, match="No space left on device"):
        main(config, Path("models"))
    with pytest.raises(BundleError, match="git checkout"):
        Bundle.load(Path("models"))


def test_networks_of_the_last_bundle_do_not_stay(config: Config) -> None:
    target = write_bundle(Path("models"), int8=True)
    main(config, target)
    assert not list(target.glob("*.int8.onnx"))
    write_bundle(config.out("models", "stack"), int8=True)
    main(config, target)
    assert Bundle.load(target).has_int8


# What DVC records


@pytest.mark.parametrize(
    ("status", "changed"),
    [
        ({}, []),
        ({"export_stack": [{"changed outs": {"out/models/stack": "modified"}}]}, ["out/models/stack"]),
        ({"export_stack": [{"changed outs": {"out/models/stack": "deleted"}}]}, ["out/models/stack"]),
        ({"evaluate_stack": [{"changed deps": {"src/a.py": "modified", "data/x": "deleted"}}]}, ["src/a.py"]),
        ({"evaluate_stack": [{"changed deps": {"data/x": "deleted"}}]}, []),
        ({"evaluate_stack": [{"changed deps": {"data/x": "new"}}]}, ["data/x"]),
        ({"export_stack": ["changed command"]}, ["export_stack (changed command)"]),
    ],
)  # fmt: skip
def test_what_dvc_says(status: dict[str, list[Any]], changed: list[str]) -> None:
    assert changed_files(status) == changed


def test_dvc_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipeline of two stages of the same names, run by DVC."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)
    python = f'"{sys.executable}" -c'
    stages = {
        "export_stack": {
            "cmd": f"{python} \"open('bundle', 'w').write(open('code').read())\"",
            "deps": ["code"],
            "outs": ["bundle"],
        },
        "evaluate_stack": {
            "cmd": f"{python} \"open('metrics', 'w').write('1')\"",
            "deps": ["bundle"],
            "outs": ["metrics"],
        },
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("code").write_text("a")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], check=True)
    with pytest.raises(StageError, match="bundle"):
        promote.check_recorded()
    subprocess.run([*dvc, "repro", "-q"], check=True)
    promote.check_recorded()
    Path("code").write_text("b")
    with pytest.raises(StageError, match=r"code\. Run `dvc repro evaluate_stack`"):
        promote.check_recorded()
    Path("code").unlink()
    promote.check_recorded()
    Path("dvc.yaml").write_text("stages: 1")
    with pytest.raises(StageError, match="`dvc status` fails"):
        promote.check_recorded()
