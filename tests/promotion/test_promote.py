"""A bundle is promoted if it is what DVC records and better than the last one, and then it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from src.config import Config
from src.core.errors import StageError
from src.core.geometry import corners_to_box
from src.datasets.shards import NewSet, write_sets
from src.inference import bundle
from src.inference.bundle import Bundle, BundleError
from src.inference.reader import Plate, PlateReader
from src.promotion import promote
from src.promotion.model_card import CARD
from src.promotion.promote import Options, RefusedError, changed_files, restore
from tests.bundles import scene, write_bundle
from tests.report.test_report import commit, git
from tests.stack.oracle import OracleStack
from tests.stack.test_evaluate import clutter, coloured, partly_hidden
from tests.standins import (
    REPOSITORY,
    config_below,
    image_of,
    plate_text,
    prepared_set,
    true_corners,
)

METRICS = {
    "val_acc": 0.99,
    "val_acc_95": {"low": 0.98, "high": 0.995},
    "count_with_text": 5000,
    "by_height": {"0-10": {"count": 40, "accuracy": 0.5}},
    "shifted": {
        "accuracy": 0.81, "accuracy_95": {"low": 0.8, "high": 0.82}, "count_with_text": 12,
        "by_colour": {"white": {"count": 12, "accuracy": 0.81}},
    },
    "clutter": {"with_text": {"share": 0.001, "count": 1000}, "by_kind": {}},
}  # fmt: skip
COUNT = 120
MODELS = Path("models")


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


@pytest.fixture
def sets(config: Config) -> None:
    """Plates to compare by."""
    folder = config.prepared("stack")
    for name in ("val", "shifted"):
        prepared_set(folder / name, (128, 128), COUNT)
    write_sets([NewSet(folder / "clutter", range(30), clutter, {})])
    write_sets([NewSet(folder / "occluded", range(30), partly_hidden, {})])
    write_sets([NewSet(folder / "colours", range(30), coloured, {})])


def retrained(config: Config, int8: bool = False, note: str = "READER") -> Path:
    """Another bundle than before, as a new training makes it."""
    folder = write_bundle(config.out("models", "stack"), threshold=0.6, int8=int8)
    path = folder / bundle.RECOGNIZER
    path.write_bytes(path.read_bytes().replace(b"reader", note.encode()))
    manifest = bundle.read_manifest(folder)
    files = {**manifest.files, bundle.RECOGNIZER: bundle.file_entry(path.read_bytes())}
    text = bundle.manifest_text(msgspec.structs.replace(manifest, files=files))
    (folder / bundle.MANIFEST).write_text(text)
    return folder


@pytest.fixture
def read_by(monkeypatch: pytest.MonkeyPatch, sets: None) -> Callable[..., None]:
    """Let oracles stand for the promoted bundle, which is in ``models``, and for the candidate."""

    def stand_in(promoted: OracleStack, candidate: OracleStack) -> None:
        def load(each: Bundle, runtime: str, threads: int) -> Any:
            return promoted if each.path == MODELS else candidate

        monkeypatch.setattr(promote, "PlateReader", load)
        monkeypatch.setattr(promote, "check", lambda _: None)
        monkeypatch.setattr(promote, "_latencies", lambda *_: (2.0, 2.1))

    return stand_in


# The first one: there is nothing to compare with


def test_a_promoted_bundle_is_the_exported_one(config: Config) -> None:
    MODELS.mkdir()
    (MODELS / "model_stack.mlem").write_text("something else that is kept here")
    promote.promote(config, Options(hardware="8 GPUs"))
    source, copy = Bundle.load(config.out("models", "stack")), Bundle.load(MODELS)
    assert copy.contents == source.contents
    assert {path.name for path in MODELS.iterdir()} == {
        "model_stack.mlem", CARD, *copy.manifest.files, bundle.MANIFEST,
    }  # fmt: skip
    measured = copy.manifest.metrics["evaluate_stack"]
    assert measured["val_acc"] == 0.99
    assert "by_height" not in measured
    assert "by_colour" not in measured["shifted"]
    assert copy.manifest.hardware == {"training": "8 GPUs"}
    assert copy.manifest.dvc_lock is not None
    changed = ("metrics", "hardware", "dvc_lock", "git_revision")
    same = {name: getattr(source.manifest, name) for name in changed}
    assert msgspec.structs.replace(copy.manifest, **same) == source.manifest
    (plate,) = PlateReader.load(MODELS, "onnxruntime", 1).read(scene("BE1"))
    assert plate.plate == "BE1"
    assert not list(Path().glob(".models.*")), "nothing is left over"


def test_the_card_says_what_was_measured(config: Config) -> None:
    promote.promote(config, Options())
    text = (MODELS / CARD).read_text()
    assert (
        "| `val`: scenes like the original project's | 5000 | 0.9900 | 0.9800 to 0.9950 |" in text
    )
    assert "| `shifted`: letters," in text
    assert "| 0-10 | 40 | 0.5000 |" in text
    assert "| white | 12 | 0.8100 |" in text
    assert "in 0.10% of 1000 images" in text
    assert "holdout" in text
    assert "{" not in text


def test_a_damaged_bundle_is_not_promoted(config: Config) -> None:
    (config.out("models", "stack") / bundle.RECOGNIZER).write_bytes(b"other")
    with pytest.raises(BundleError, match=r"recognizer\.onnx"):
        promote.promote(config, Options())
    assert not MODELS.exists()


def test_a_large_bundle_is_not_promoted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promote, "LARGEST", 1000)
    with pytest.raises(StageError, match="1,000 are allowed"):
        promote.promote(config, Options())
    assert not MODELS.exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_a_bundle_that_was_not_evaluated_is_not_promoted(
    config: Config, content: str | None
) -> None:
    path = config.out("evaluations", "stack") / "metrics.json"
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(StageError, match=r"metrics\.json.*dvc repro evaluate_stack"):
        promote.promote(config, Options())
    assert not MODELS.exists()


# The gate


def test_a_better_one_is_promoted(config: Config, read_by: Any) -> None:
    promote.promote(config, Options())
    folder = retrained(config)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    promote.promote(config, Options())
    copy = Bundle.load(MODELS)
    assert copy.contents == Bundle.load(folder).contents
    compared = copy.manifest.metrics["promotion"]
    assert compared["sets"][0] == {
        "name": "val", "count": COUNT, "promoted": COUNT - 8, "candidate": COUNT, "gained": 8,
        "lost": 0, "p_better": 0.5**8, "p_worse": 1.0,
    }  # fmt: skip
    names = [each["name"] for each in compared["sets"]]
    assert names == ["val", "shifted", "occluded", "clutter", "colours"]
    assert compared["costs"]["latency"] == [2.0, 2.1]


@pytest.mark.parametrize(
    ("promoted", "candidate", "options", "says"),
    [
        ({}, {}, {}, "not better on val: 0 plates gained, 0 lost"),
        ({"wrong": {1, 2}}, {}, {}, "not better on val: 2 plates gained"),
        ({"wrong": set(range(9))}, {"missed": {40, 41}}, {}, None),
        ({"wrong": set(range(9))}, {"missed": {20, 21}}, {"primary": "night"}, "must be one of val"),
        ({"wrong": set(range(9))}, {}, {"primary": "clutter"}, "must be one of val, shifted"),
        # A third of the plates of ``colours`` has none.
        ({}, {"colour": "blue"}, {"primary": "colours"}, None),
        ({"colour": "blue", "wrong": set(range(9))}, {}, {}, "worse on colours by 33.33%"),
        # No text in images without a plate: they have other brightnesses than plates have.
        (
            {"wrong": set(range(9)), "missed": {1, 2, 4, 5, 7, 8}},
            {"missed": {10, 11}}, {}, "worse on clutter by",
        ),
    ],
)  # fmt: skip
def test_one_that_is_not_is_refused(
    config: Config, read_by: Any, capsys: pytest.CaptureFixture[str],
    promoted: Any, candidate: Any, options: Any, says: str | None,
) -> None:  # fmt: skip
    promote.promote(config, Options())
    before = {path.name: path.read_bytes() for path in MODELS.iterdir()}
    retrained(config)
    read_by(OracleStack(**promoted), OracleStack(**candidate))
    if says is None:
        promote.promote(config, Options(**options))
        return
    with pytest.raises(StageError, match=says):
        promote.promote(config, Options(**options))
    assert {path.name: path.read_bytes() for path in MODELS.iterdir()} == before
    if "primary" not in options:
        assert "val (primary)" in capsys.readouterr().out, "the table is shown"


def test_a_truth_file_is_a_set_too(config: Config, read_by: Any) -> None:
    promote.promote(config, Options())
    retrained(config)
    read_by(OracleStack(wrong=set(range(9))), OracleStack(missed={30, 31}))
    rows = ["file,plate,cx,cy,w,h"]
    for i in range(20, 40):
        Image.fromarray(image_of(i, (128, 128))).save(f"{i}.png")
        box = ",".join(str(value) for value in corners_to_box(true_corners(i)))
        rows.append(f"{i}.png,{plate_text(i)},{box}")
    Path("own.csv").write_text("\n".join(rows))
    with pytest.raises(RefusedError, match=r"worse on own by 10\.00%; at most 0\.50% is allowed"):
        promote.promote(config, Options(labels=[Path("own.csv")]))
    with pytest.raises(RefusedError, match="not better on own: 0 plates gained, 2 lost"):
        promote.promote(config, Options(labels=[Path("own.csv")], primary="own"))


def test_a_truth_file_that_cannot_be_compared(config: Config, read_by: Any) -> None:
    promote.promote(config, Options())
    retrained(config)
    Path("own.csv").write_text("file,cx,cy,w,h\n1.png,0.5,0.5,0.1,0.1\n")
    with pytest.raises(StageError, match=r"own\.csv.*no column `plate`"):
        promote.promote(config, Options(labels=[Path("own.csv")]))
    Path("val.csv").write_text("file,plate,cx,cy,w,h\n1.png,ZH1,0.5,0.5,0.1,0.1\n")
    with pytest.raises(StageError, match="already a set named val"):
        promote.promote(config, Options(labels=[Path("val.csv")]))


def test_both_really_read(config: Config, sets: None) -> None:
    """Without oracles: both stand-ins read the same, so there is nothing to gain."""
    promote.promote(config, Options())
    retrained(config)
    with pytest.raises(RefusedError, match="not better on val: 0 plates gained, 0 lost"):
        promote.promote(config, Options())


def test_the_same_networks_again(config: Config) -> None:
    promote.promote(config, Options())
    with pytest.raises(RefusedError, match="already contains these networks"):
        promote.promote(config, Options())


def test_latencies_are_taken_in_turn() -> None:
    """A machine that gets slower has no favourite."""
    order = []

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        def read(self, _: Any) -> list[Plate]:
            order.append(self.name)
            return []

    first, second = promote._latencies([Slow("a"), Slow("b")], [np.zeros((2, 2), np.uint8)] * 3)  # type: ignore[list-item]
    assert order == ["a", "b"] * 3 * promote._ROUNDS
    assert 0 <= first < 100
    assert 0 <= second < 100


# Writing


def test_a_full_disk_leaves_the_old_one(
    config: Config, read_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote.promote(config, Options())
    before = Bundle.load(MODELS).contents
    retrained(config)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == ".models.partial":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StageError, match="No space left on device"):
        promote.promote(config, Options())
    assert Bundle.load(MODELS).contents == before
    assert not list(Path().glob(".models.*"))


def test_a_promotion_that_was_killed_between_its_renames_is_mended(
    config: Config, read_by: Any
) -> None:
    promote.promote(config, Options())
    before = Bundle.load(MODELS).contents
    MODELS.rename(".models.old")
    # It already contains these networks, and is there to say so.
    with pytest.raises(RefusedError, match="already contains these networks"):
        promote.promote(config, Options())
    assert Bundle.load(MODELS).contents == before
    assert not list(Path().glob(".models.*"))


def test_networks_of_the_last_bundle_do_not_stay(config: Config, read_by: Any) -> None:
    write_bundle(MODELS, int8=True)
    retrained(config)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    promote.promote(config, Options())
    assert not list(MODELS.glob("*.int8.onnx"))


# Git and the registry


@pytest.fixture
def repository(config: Config) -> Config:
    """With a promoted bundle, committed."""
    git("init", "--quiet", "--initial-branch", "main")
    git("config", "user.name", "test")
    git("config", "user.email", "test@localhost")
    Path(".gitignore").write_text("/out/models\n/prepared\n")
    promote.promote(config, Options())
    commit("first bundle")
    return config


def test_what_is_not_committed_is_not_replaced(repository: Config, read_by: Any) -> None:
    retrained(repository)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    promote.promote(repository, Options())
    retrained(repository, note="reAder")
    with pytest.raises(StageError, match="models: has uncommitted changes"):
        promote.promote(repository, Options())
    with pytest.raises(StageError, match="models: has uncommitted changes"):
        restore(MODELS)


def test_the_last_one_can_be_restored(
    repository: Config, read_by: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Bundle.load(MODELS)
    with pytest.raises(StageError, match="history has no other bundle"):
        restore(MODELS)
    retrained(repository)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    promote.promote(repository, Options())
    commit("second bundle")
    second = Bundle.load(MODELS)
    capsys.readouterr()
    restore(MODELS)
    assert "gto assign bundle --version VERSION --stage prod" in capsys.readouterr().out
    restored = Bundle.load(MODELS)
    assert (restored.contents, restored.manifest) == (first.contents, first.manifest)
    commit("first bundle again")
    restore(MODELS)
    assert Bundle.load(MODELS).contents == second.contents


def test_it_is_committed_and_tagged(
    repository: Config, read_by: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    retrained(repository)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(StageError, match=r"uncommitted changes:\n M dvc.lock"):
        promote.promote(repository, Options(tag=True))
    commit("a run")
    promote.promote(repository, Options(tag=True))
    assert git("tag").split() == ["bundle#prod#1", "bundle@v0.0.1"]
    assert git("status", "--short") == ""
    assert git("rev-parse", "bundle@v0.0.1^{commit}") == git("rev-parse", "HEAD")
    # A plain checkout of the tag gives a bundle that works.
    git("checkout", "--quiet", "HEAD~2")
    git("checkout", "--quiet", "bundle@v0.0.1")
    (plate,) = PlateReader.load(MODELS, "onnxruntime", 1).read(scene("BE1"))
    assert plate.plate == "BE1"


def test_what_is_left_to_do_is_told_where_a_tag_fails(repository: Config, read_by: Any) -> None:
    retrained(repository)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    # gto gives the first version that there is none of; with this one, Git does not let it.
    git("tag", "bundle@v0.0.1/in-the-way")
    with pytest.raises(
        StageError, match=r"models is written, but `.*gto register bundle` failed"
    ) as info:
        promote.promote(repository, Options(tag=True))
    left = str(info.value).split("Remaining commands:\n")[1].splitlines()
    assert [line.strip() for line in left] == [
        "gto register bundle",
        "gto assign bundle --stage prod",
    ]
    assert git("status", "--short") == "", "the bundle is committed"


def test_dvc_gets_what_was_tagged(repository: Config) -> None:
    """By the artifact's name in the project's own dvc.yaml, into another folder."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    artifact = pipeline["artifacts"]["bundle"]
    Path("dvc.yaml").write_text(yaml.safe_dump({"artifacts": {"bundle": artifact}}))
    commit("an artifact")
    for command in (["register", "bundle"], ["assign", "bundle", "--stage", "prod"]):
        subprocess.run([Path(sys.executable).with_name("gto"), *command], check=True)
    get = [sys.executable, "-m", "dvc", "artifacts", "get", ".", "bundle"]
    for number, which in enumerate((["--rev", "v0.0.1"], ["--stage", "prod"])):
        subprocess.run([*get, *which, "--out", f"got{number}"], check=True)
        (plate,) = PlateReader.load(f"got{number}", "onnxruntime", 1).read(scene("BE1"))
        assert plate.plate == "BE1"


def test_without_a_tag_the_commands_are_printed(
    repository: Config, read_by: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    retrained(repository)
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    promote.promote(repository, Options())
    printed = capsys.readouterr().out
    assert "gto register bundle\n" in printed
    assert "gto assign bundle --stage prod\n" in printed
    assert git("tag") == ""


def test_the_bundle_of_a_revision(
    repository: Config, read_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment's, from DVC's cache, while the workspace has another one."""
    read_by(OracleStack(wrong=set(range(8))), OracleStack())
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    with pytest.raises(StageError, match="'nowhere' is not a revision or experiment"):
        promote.promote(repository, Options(rev="nowhere"))
    retrained(repository)
    wanted = Bundle.load(repository.out("models", "stack"))
    stage = {
        "cmd": "true",
        "outs": ["out/models/stack"],
        "metrics": [{"out/evaluations/stack/metrics.json": {"cache": False}}],
    }
    Path(".gitignore").write_text("/prepared\n")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate_stack": stage}}))
    subprocess.run([sys.executable, "-m", "dvc", "commit", "--quiet", "--force"], check=True)
    commit("an experiment")
    # Where DVC keeps experiments: neither a branch nor a tag.
    base = git("rev-parse", "HEAD~1")
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/experiment", "HEAD")
    retrained(repository, note="reAder")
    relative = repository.model_copy(update={"out_path": "out"})
    monkeypatch.setattr(type(repository), "out", lambda _, *parts: Path("out", *parts))
    promote.promote(relative, Options(rev="experiment"))
    copy = Bundle.load(MODELS)
    assert copy.contents == wanted.contents
    assert copy.manifest.git_revision == git("rev-parse", "HEAD")


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
    with pytest.raises(StageError, match="`dvc status` failed"):
        promote.check_recorded()
