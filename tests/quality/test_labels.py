"""Rules that no label may break."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from src.core.geometry import CORNER_COLUMNS
from src.quality.samples import Samples
from tests.quality.sets import checked, samples_of


def changed(column: str, values: dict[int, object], **more: object) -> Samples:
    samples = samples_of(6, **more)
    samples.labels[column] = samples.labels[column].astype(object)
    for row, value in values.items():
        samples.labels.loc[row, column] = value
    if column not in ("plate", "format", "colour", "problem"):
        samples.labels[column] = pd.to_numeric(samples.labels[column])
    return samples


@pytest.mark.parametrize("check", ["unusable", "grammar", "box", "corners", "format"])
def test_a_clean_set_breaks_none(check: str) -> None:
    finding = checked(check, samples_of(6))
    assert finding.checked == 6
    assert not len(finding.flagged)
    assert not finding.failed


def test_samples_without_an_image_are_told() -> None:
    finding = checked("unusable", changed("problem", {2: "there is no such file"}))
    assert finding.flagged.tolist() == [2]
    assert finding.failed
    assert finding.scores is not None
    assert finding.scores.why(2) == "there is no such file"


def test_texts_obey_the_grammar() -> None:
    finding = checked("grammar", changed("plate", {0: "XX12", 1: "ZH0", 3: "", 4: "ZH12345678"}))
    assert sorted(finding.flagged.tolist()) == [0, 1, 4]
    assert finding.scores is not None
    assert "'XX12'" in finding.scores.why(0)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("w", 0.0, "thinner"), ("h", -0.1, "thinner"), ("w", 0.03, "thinner"), ("w", np.nan, "thinner"),
        ("cx", -0.2, "outside"), ("cy", 1.1, "outside"),
    ],
)  # fmt: skip
def test_boxes_have_an_area_within_the_image(column: str, value: float, why: str) -> None:
    finding = checked("box", changed(column, {4: value}))
    assert finding.flagged.tolist() == [4]
    assert finding.scores is not None
    assert why in finding.scores.why(4)


def test_a_plate_may_be_cut_off_and_an_empty_image_has_no_box() -> None:
    assert not len(checked("box", changed("cx", {1: 0.05})).flagged)
    samples = changed("w", {1: np.nan})
    samples.labels.loc[1, "present"] = False
    assert not len(checked("box", samples).flagged)


def test_corners_agree_with_the_box() -> None:
    near, far = changed("cx", {1: 0.51}), changed("cx", {1: 0.6})
    assert not len(checked("corners", near).flagged)
    finding = checked("corners", far)
    assert finding.flagged.tolist() == [1]
    assert finding.scores is not None
    assert "20%" in finding.scores.why(1)


def test_corners_run_clockwise() -> None:
    samples = samples_of(6)
    mirrored = samples.corners[2][[1, 0, 3, 2]].ravel()
    samples.labels.loc[2, CORNER_COLUMNS] = mirrored
    finding = checked("corners", samples)
    assert finding.flagged.tolist() == [2]
    assert finding.scores is not None
    assert "clockwise" in finding.scores.why(2)


def test_corners_that_are_not_known_are_not_judged() -> None:
    samples = samples_of(6)
    samples.labels[CORNER_COLUMNS] = np.nan
    assert checked("corners", samples).warning == "the set has no corners"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"format": "foreign"}, "gives the format foreign"),
        ({"format": "rear_high"}, "rear_high has 2 lines, but the label says 1"),
        ({"colour": "black"}, "army"),
        ({"present": False}, "there is no plate"),
    ],
)
def test_texts_agree_with_the_format(values: dict[str, object], why: str) -> None:
    samples = samples_of(6)
    for column, value in values.items():
        samples.labels.loc[3, column] = value
    finding = checked("format", samples)
    assert finding.flagged.tolist() == [3]
    assert finding.scores is not None
    assert why in finding.scores.why(3)


def test_what_has_no_text_may_be_of_any_format() -> None:
    samples = samples_of(6, plate="", format="foreign", colour="black")
    assert not len(checked("format", samples).flagged)
