"""The report, in small repositories with real revisions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from src.evaluation.paired import FILE, Outcomes, write_outcomes
from src.promotion import gate
from src.promotion.gate import RIGHT
from src.report import __main__ as report
from src.report.__main__ import REPORT, check_links, judge, mark, write_report
from src.report.metric_names import direction
from src.report.revisions import Revision, RevisionError, read_revision

ROOT = Path(__file__).parents[2]
PIPELINE = """
params: [params.py, params.yaml]
metrics: ["${out_path}/evaluations/stack/metrics.json"]
plots:
  - ${out_path}/runs/ocr/plots/metrics: {x: step}
  - stack_reliability:
      template: linear
      x: confidence
      y: {"${out_path}/evaluations/stack/plots/reliability.csv": accuracy}
      title: how often right
  - ${out_path}/evaluations/stack/plots/images
"""


def git(*arguments: str) -> str:
    identity = {
        f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", *arguments],
        env={**os.environ, **identity},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def results(
    accuracy: float, count: int = 1000, images: int = 3, data: str = "one", **more: Any
) -> None:
    """What a run leaves; the plates that are read are the first ones."""
    read = Outcomes(data, np.arange(count) < round(accuracy * count))
    Path("out/evaluations/stack").mkdir(parents=True, exist_ok=True)
    write_outcomes(Path("out/evaluations/stack") / FILE, {"val": read})
    metrics = {"val_acc": accuracy, "count_with_text": count, "latency": {"median_ms": 2.0}, **more}
    write("out/evaluations/stack/metrics.json", json.dumps(metrics))
    write(
        "out/evaluations/stack/plots/reliability.csv", f"confidence,accuracy\n0.5,{accuracy}\n1,1\n"
    )
    write("out/runs/ocr/plots/metrics/train/loss.tsv", f"step\tloss\n1\t{2 - accuracy}\n2\t0.1\n")
    folder = Path("out/evaluations/stack/plots/images")
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(images):
        Image.new("L", (60, 40), 20 * i + 10).save(folder / f"stack_pred_{i}.png")
    Image.new("RGB", (90, 50), (200, 10, 10)).save(folder / "worst_failures.png")


def commit(message: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is committed yet; it is the current folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    write("params.py", "class TrainOCRParams:\n    EPOCHS: int = 2\n    LR: float = 0.1\n")
    write("params.yaml", "out_path: out\n")
    write("dvc.yaml", PIPELINE)
    return folder


def report_of(base: str = "main") -> tuple[str, str]:
    """The verdict and the text."""
    verdict = write_report(base, Path("report"))
    return verdict, Path("report", REPORT).read_text()


def test_a_change_of_a_parameter(repository: Path) -> None:
    results(0.9, gone=1.5, formats={"accuracy": 0.8})
    commit("base")
    git("switch", "--quiet", "--create", "change")
    write("params.py", "class TrainOCRParams:\n    EPOCHS: int = 3\n    LR: float = 0.1\n")
    results(0.95, images=4, formats={"accuracy": 0.7}, fresh=7)
    commit("head")
    verdict, text = report_of()
    assert verdict == ("Better: val_acc 0.9000 → 0.9500 (50 plates gained, 0 lost, p = 9e-16)")
    assert "| val | 1000 | 0.9000 | 0.9500 | 50 | 0 | ▲ better |" in text
    assert text.startswith(f"# {verdict}\n")
    assert f"Base: `main` (`{git('rev-parse', 'main')[:8]}`)" in text
    assert "| `TrainOCRParams.EPOCHS` | `2` | `3` |" in text
    assert "TrainOCRParams.LR" not in text
    assert "| plates read, scenes like the original's | 0.9 | 0.95 | ▲ better |" in text
    assert "| plates read, all formats | 0.8 | 0.7 | ▼ worse |" in text
    assert "| latency per scene in ms | 2 | 2 | = same |" in text
    assert re.search(r"metrics.json: `gone` \| 1.5 \| – \| gone", text)
    assert re.search(r"metrics.json: `fresh` \| – \| 7 \| new", text)
    links = re.findall(r"!\[[^]]*\]\((.+?)\)", text)
    assert {
        "ocr_train_loss.png",
        "predictions_stack.png",
        "how_often_right.png",
        "worst_failures.png",
    } <= set(links)
    for link in links:
        with Image.open(Path("report", link)) as image:
            image.load()
    # Two rows of four images; the base has but three.
    with Image.open("report/predictions_stack.png") as sheet:
        assert sheet.size == (4 * 240, 2 * 262)
        greys = [
            sheet.getpixel((column * 240 + 20, row * 262 + 40))
            for row in (0, 1)
            for column in range(4)
        ]
    shades = [(20 * i + 10,) * 3 for i in range(4)]
    assert greys == [*shades[:3], (255, 255, 255), *shades]
    # The workspace is left as it was, and a second report takes the first one's place.
    assert git("status", "--short") == "?? report/"
    Path("report/old.png").touch()
    report_of()
    assert not Path("report/old.png").exists()


def test_both_curves_have_colours_of_their_own(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(0.9)
    commit("base")
    results(0.8)
    drawn: dict[str, Any] = {}
    draw = vl_convert.vegalite_to_png

    def remember(spec: Any, **options: Any) -> bytes:
        drawn[spec["title"]] = spec
        return draw(spec, **options)

    monkeypatch.setattr(vl_convert, "vegalite_to_png", remember)
    verdict, text = report_of()
    assert verdict.startswith("Worse: ")
    for title in ("ocr train loss", "how often right"):
        base = f"base {git('rev-parse', 'main')[:8]}"
        scale = drawn[title]["encoding"]["color"]["scale"]
        assert dict(zip(scale["domain"], scale["range"], strict=True)) == {
            base: "#0072B2", "head": "#E69F00",
        }  # fmt: skip
        assert {row["rev"] for row in drawn[title]["data"]["values"]} == {base, "head"}
    assert "No parameters changed." in text


def test_without_a_base(repository: Path) -> None:
    results(0.9)
    commit("only")
    verdict, text = report_of("origin/main")
    assert verdict == "No verdict: val_acc is 0.9000, but there is nothing to compare it with"
    assert "No base: Git does not know the revision `origin/main`." in text
    with Image.open("report/predictions_stack.png") as sheet:
        assert sheet.size == (3 * 240, 262)


def test_before_the_first_commit(repository: Path) -> None:
    results(0.9)
    _, text = report_of()
    assert "the workspace at `no commit yet`" in text


def test_a_base_from_before_the_pipeline(repository: Path) -> None:
    for name in ("dvc.yaml", "params.py", "params.yaml"):
        Path(name).rename(f"{name}.later")
    write("README.md", "soon")
    commit("base")
    for name in ("dvc.yaml", "params.py", "params.yaml"):
        Path(f"{name}.later").rename(name)
    results(0.9)
    verdict, text = report_of()
    assert verdict.endswith("nothing to compare it with")
    assert "The base has no metrics" in text
    assert "| `TrainOCRParams.EPOCHS` | – | `2` |" in text


def test_a_workspace_without_results(repository: Path) -> None:
    results(0.9)
    commit("base")
    git("rm", "-r", "--quiet", "out")
    verdict, text = report_of()
    assert verdict == "No verdict: the workspace has no val_acc"
    assert "not in workspace" in text
    assert "localize: there are no images." in text
    with Image.open("report/predictions_stack.png") as sheet:
        assert sheet.size == (3 * 240, 2 * 262)
        assert {sheet.getpixel((column * 240 + 20, 262 + 60)) for column in range(3)} == {
            (255,) * 3
        }


def test_what_dvc_lock_says_of_sizes(repository: Path) -> None:
    results(0.9)
    lock = "stages:\n  export_stack:\n    outs: [{path: out/models/stack, size: %d}]\n"
    write("dvc.lock", lock % 4_000_000)
    commit("base")
    write("dvc.lock", lock % 5_250_000)
    _, text = report_of()
    assert "| `out/models/stack`, MB | 4.00 | 5.25 |" in text


@pytest.mark.parametrize(
    ("base", "head", "words"),
    [
        ((), (), "Same: val_acc 1.0000 → 1.0000"),
        (
            (1, 2, 3, 4),
            (5,),
            "Same within chance: val_acc 0.9960 → 0.9990 (4 plates gained, 1 lost)",
        ),
        (
            (1, 2, 3, 4, 5),
            (),
            "Better: val_acc 0.9950 → 1.0000 (5 plates gained, 0 lost, p = 0.03)",
        ),
        ((), (1, 2, 3, 4, 5), "Worse: val_acc 1.0000 → 0.9950 (0 plates gained, 5 lost, p = 0.03)"),
    ],
)
def test_the_verdict_is_the_gates(base: Any, head: Any, words: str) -> None:
    def revision(wrong: tuple[int, ...]) -> Revision:
        read = np.ones(1000, bool)
        read[list(wrong)] = False
        metrics = {"out/evaluations/stack/metrics.json": {"val_acc": float(read.mean())}}
        return Revision("x", None, metrics=metrics, outcomes={"val": Outcomes("one", read)})

    old, new = revision(base), revision(head)
    assert judge(old, new) == words
    tables = ({"val": pd.DataFrame({RIGHT: each.outcomes["val"].right})} for each in (old, new))
    verdict = gate.judge(*tables, "val", {})
    assert verdict.passes == words.startswith("Better")


def test_what_is_not_paired_is_not_judged(repository: Path) -> None:
    results(0.9)
    commit("base")
    results(0.99, data="other")
    verdict, text = report_of()
    assert verdict == "Not paired: val_acc 0.9000 → 0.9900"
    assert "Paired comparison" not in text
    # As every run before there was such a file.
    results(0.99)
    (Path("out/evaluations/stack") / FILE).unlink()
    assert report_of()[0] == verdict
    write(f"out/evaluations/stack/{FILE}", "{")
    with pytest.raises(RevisionError, match=rf"{FILE} of workspace: "):
        report_of()


def test_a_branch_is_compared_with_what_it_was_made_from(repository: Path) -> None:
    results(0.9)
    commit("base")
    git("switch", "--quiet", "--create", "change")
    write("note", "1")
    commit("nothing to do with results")
    git("switch", "--quiet", "main")
    results(0.95)
    commit("progress on main")
    git("switch", "--quiet", "change")
    assert report_of("main")[0].startswith("Worse")
    assert report_of("main...")[0].startswith("Same")
    assert report_of("nowhere...")[0].startswith("No verdict")


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("val_acc", 1), ("shifted.uncertainty.ece", -1), ("at_threshold.wrong.share", -1),
        ("at_threshold.coverage.share", 1), ("corner_error_px.mean", -1),
        ("corner_error.picture_px.median", -1), ("latency.median_ms", -1), ("count", 0),
        ("clutter.with_text.count", 0), ("latency.runtime", 0), ("lost_by_recognizer", -1),
        ("detection.recall.low", 1), ("threshold", 0),
    ],
)  # fmt: skip
def test_which_way_is_better(name: str, sign: int) -> None:
    assert direction(name) == sign
    assert mark(name, 0.25, 0.5) == {1: "▲ better", -1: "▼ worse", 0: "changed"}[sign]


@pytest.mark.parametrize("base", ["main", "main...", "HEAD~1"])
def test_a_shallow_clone_is_told_how_to_get_the_base(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    results(0.5)
    commit("base")
    git("switch", "--quiet", "--create", "faster")
    results(0.6)
    commit("faster")
    clone = tmp_path / "clone"
    git("clone", "-q", "--depth", "1", "-b", "faster", f"file://{repository}", str(clone))
    monkeypatch.chdir(clone)
    with pytest.raises(
        RevisionError, match=r"this clone is shallow.*git fetch --unshallow"
    ) as error:
        write_report(base, Path("report"))
    assert not Path("report").exists()
    # What it says is enough.
    git("fetch", "-q", "--unshallow")
    if "main" in base:
        assert "`git fetch origin main:main`; then name main as the base" in str(error.value)
        git("fetch", "-q", "origin", "main:main")
    assert not write_report(base, Path("report")).startswith("No verdict")


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text("![there](a.png) and ![not there](b.png)")
    (tmp_path / "a.png").touch()
    with pytest.raises(RevisionError, match=r"links to b\.png, which does not exist"):
        check_links(tmp_path / REPORT)


def test_another_folder_is_not_replaced(repository: Path) -> None:
    results(0.9)
    commit("base")
    with pytest.raises(RevisionError, match="out: contains something other than a report"):
        write_report("main", Path("out"))
    assert Path("out/evaluations/stack/metrics.json").exists()


def test_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RevisionError, match="no Git repository"):
        read_revision()


def test_a_failure_keeps_the_last_report(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(0.9)
    commit("base")
    report_of()
    monkeypatch.setattr(report, "_environment", lambda: "![gone](gone.png)")
    with pytest.raises(RevisionError, match=r"gone\.png"):
        report_of()
    assert "gone.png" not in Path("report", REPORT).read_text()


def test_the_command(repository: Path) -> None:
    results(0.9)
    commit("base")
    done = subprocess.run(
        [sys.executable, "-m", "src.report", "--base", "main", "--out", "elsewhere"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Same: val_acc 0.9000 → 0.9000", "Wrote elsewhere/report.md.",
    ]  # fmt: skip
    assert Path("elsewhere", REPORT).exists()
