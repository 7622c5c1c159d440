"""The page about the data: it says what the report says, and what makes what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.dashboard.common import ResultsError
from src.dashboard.quality import checks_of, sections_of
from src.quality.base import Finding, Scores
from src.quality.report import write_results
from src.quality.suite import checks_of as all_checks
from tests.dashboard.pages import failure, opened, texts
from tests.quality import sets

FOLDER = Path("out/quality/ocr")


def findings() -> list[Finding]:
    """Of a set of twenty: one check fails, one is made, one is not, and there are clusters."""
    samples = sets.samples_of(20)
    checks = {check.name: check for check in all_checks(sets.CONFIG)}
    worse = np.zeros(20)
    worse[3], worse[4] = 1.0, 0.9
    clusters = pd.DataFrame({"cluster": [0, 1], "count": [15, 5], "expected": [10.0, 10.0],
                             "lacking": [False, True]})  # fmt: skip
    reliability = pd.DataFrame({"confidence": [0.5], "accuracy": [0.4], "low": [0.1], "high": [0.8],
                                "count": [20]})  # fmt: skip
    return [
        Finding("train", checks["grammar"], samples, Scores(worse, lambda row: f"because of {row}")),
        Finding("train", checks["dark"], samples, Scores(np.zeros(20), str)),
        Finding("train", checks["blurry"], samples, None, "too few"),
        Finding(
            "train", checks["clusters"], samples,
            Scores(np.zeros(20), str, value=0.0, tables={"clusters": clusters},
                   groups={"cluster 0: 15": [1, 2]}),
        ),
        Finding(
            "train", checks["calibration"], samples,
            Scores(
                np.zeros(20), str, value=0.0, measures={"ece": 0.1},
                tables={"reliability": reliability},
            ),
        ),
    ]  # fmt: skip


def test_nothing_was_checked() -> None:
    page = opened("quality")
    assert "dvc repro check_localize check_ocr check_stack" in texts(page)


def test_it_shows_what_the_checks_have_written() -> None:
    write_results(FOLDER, "Quality", findings())
    page = opened("quality")
    assert [each.value for each in page.metric] == ["1", "1", "1"]
    checks, worst = (each.value for each in page.dataframe)
    assert checks["check"].tolist()[0] == "grammar"
    assert checks["state"].tolist() == ["above its limit", *["within"] * 3, "not checked"]
    assert checks["why"].tolist() == [*[""] * 4, "too few"]
    assert worst["score"].tolist() == [1.0, 0.9]
    assert worst["why"].tolist() == ["because of 3", "because of 4"]
    # What fails comes first, then clusters.
    choice = page.selectbox[0]
    assert choice.options[:2] == ["train: grammar", "train: clusters"]
    frame = page.get("iframe")[0].proto
    assert "because of 3" in frame.srcdoc
    assert "<style>" in frame.srcdoc
    choice.set_value("train-clusters").run()
    frame = page.get("iframe")[0].proto
    assert "cluster 0: 15" in frame.srcdoc
    assert "data:image/png" in frame.srcdoc
    assert "because of 3" not in frame.srcdoc


def test_sections_are_those_of_the_report() -> None:
    write_results(FOLDER, "Quality", findings())
    head, sections = sections_of((FOLDER / "report.html").read_text())
    assert set(sections) == {"train-grammar", "train-clusters", "train-calibration"}
    assert "</style>" in head
    assert "<details open><summary>Examples" in sections["train-clusters"]
    assert "Not checked" not in "".join(sections.values())


def test_it_is_told_how_to_get_a_report_that_is_not_here() -> None:
    write_results(FOLDER, "Quality", findings())
    (FOLDER / "report.html").unlink()
    (FOLDER / "flagged.csv").unlink()
    said = texts(opened("quality"))
    assert said.count(f"git checkout {FOLDER}") == 2
    assert "dvc repro check_" in said


def test_what_is_damaged_is_told() -> None:
    with pytest.raises(ResultsError, match="from another version"):
        checks_of({"train": {"grammar": {"value": 1}}})
    FOLDER.mkdir(parents=True)
    (FOLDER / "metrics.json").write_text("{")
    assert "metrics.json: cannot be read" in failure("quality")
