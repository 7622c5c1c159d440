"""Run all checks, with the thresholds of params.py, on the sets of a task.

A new check is a function that scores a set (src/quality/base.py), and a line in ``checks_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..config import Config
from ..core.errors import StageError
from . import clusters, coverage, duplicates, label_errors, labels, measures, shift, uncertainty
from .base import Check, Evidence, Finding, Scores, evidence_of
from .networks import Networks
from .report import gate_message, write_results
from .samples import prepared

_RULE = (0.5, 0.0)
"""Threshold and limit of rules: a single sample that breaks one is an error."""
_SHOWN = float("inf")
"""Limit of checks that are shown but never fail: a label that the network is unsure of may be right."""
_OF_SET = 0.5
"""Threshold of checks of the set as a whole, which flag no sample."""


def checks_of(config: Config) -> list[Check]:
    """Return all checks in the order of the report."""
    params = config.QualityParams
    doubted = partial(Check, least=label_errors.LEAST_SAMPLES)
    compared = partial(Check, least=clusters.LEAST_SAMPLES)
    return [
        _rule("unusable", "samples with an unreadable image or an invalid number", labels.unusable),
        _rule("grammar", "texts that are not valid plate texts", labels.grammar),
        _rule("box", "boxes without area or outside the image", labels.box),
        Check("corners", "corners that contradict the box", labels.corners, *params.CORNERS, whole=True),
        _rule("format", "texts that contradict the format", labels.format_of_plate),
        _rule("exact_duplicates", "duplicates of an earlier image of the set", duplicates.in_set),
        _rule("leaked_exactly", "images that another set contains too", duplicates.leaked),
        Check(
            "near_duplicates", "near duplicates of an earlier image of the set",
            duplicates.nearly_in_set, *params.NEAR_DUPLICATES, least=2,
        ),
        Check(
            "leaked_nearly", "near duplicates of an image of another set",
            duplicates.nearly_leaked, *params.LEAKED_NEARLY, least=2,
        ),
        doubted("wrong_text", "texts that are probably wrong", label_errors.wrong_text, *params.WRONG_TEXT),
        doubted("wrong_box", "boxes that are probably shifted", label_errors.wrong_box, *params.WRONG_BOX),
        doubted(
            "missed_plate", "plates that are probably missing from the labels",
            label_errors.missed_plate, *params.MISSED_PLATE,
        ),
        _image("dark", "dark images", params.DARK),
        _image("light", "bright images", params.LIGHT),
        _image("blurry", "blurred images", params.BLURRY),
        _image("low_information", "images with hardly any content", params.LOW_INFORMATION),
        _image("odd_size", "images of unusual size", params.ODD_SIZE, least=20),
        _image("odd_aspect_ratio", "long and narrow images", params.ODD_ASPECT_RATIO),
        Check(
            "coverage", "bins of the declared ranges with too few samples",
            coverage.coverage, _OF_SET, params.COVERAGE_GAPS, whole=True,
        ),
        compared(
            "clusters", "clusters with far fewer images than expected",
            clusters.clusters, params.UNLIKE_ALL, params.LACKING_CLUSTERS,
        ),
        Check(
            "uncertainty", "most uncertain predictions",
            uncertainty.uncertainty, params.UNCERTAINTY, _SHOWN,
        ),
        Check(
            "calibration", "expected calibration error of the confidence",
            uncertainty.calibration, _OF_SET, params.CALIBRATION_ERROR,
        ),
        compared(
            "shift", "difference from the other set (area under the ROC curve of a classifier)",
            shift.shift, *params.SHIFT,
        ),
    ]  # fmt: skip


def _rule(name: str, title: str, score: Callable[[Evidence], Scores]) -> Check:
    return Check(name, title, score, *_RULE, whole=True)


def _image(name: str, title: str, limits: Sequence[float], least: int = 1) -> Check:
    def score(evidence: Evidence) -> Scores:
        table = evidence.images
        return Scores(
            table[name].to_numpy(), lambda row: measures.explanation(name, table.iloc[row])
        )

    return Check(name, title, score, limits[0], limits[1], least=least)


def check_training(task: str, networks: Networks, config: Config) -> None:
    """Check a task's training and validation sets, and compare them with each other.

    Args:
        task: Name of the task, ``localize`` or ``ocr``.
        networks: Networks trained on the training set.
        config: Parameters of the project.

    Raises:
        StageError: A set exceeds a limit.
    """
    train, val = (
        evidence_of(prepared(config.prepared(task) / name), networks, config, name == "val")
        for name in ("train", "val")
    )
    train.against, val.against = val, train
    val.others = [train]
    run([train, val], config, config.out("quality", task), f"Data quality of the {task} sets")


def run(sets: Sequence[Evidence], config: Config, folder: Path, title: str) -> None:
    """Make all checks of all sets, write the results, and fail if a limit is exceeded.

    Args:
        sets: Sets to check.
        config: Parameters of the project.
        folder: Folder for the results.
        title: Title of the report.

    Raises:
        StageError: A set exceeds a limit. All results are written before the error is raised.
    """
    findings = check(sets, config)
    write_results(folder, title, findings)
    made = sum(finding.scores is not None for finding in findings)
    print(
        f"{made} checks made, {len(findings) - made} not made (the report gives the reasons), "
        f"{sum(finding.failed for finding in findings)} failed: {folder / 'report.html'}"
    )
    if message := gate_message(findings, folder):
        raise StageError(message)


def check(sets: Sequence[Evidence], config: Config) -> list[Finding]:
    """Make all checks of all sets."""
    pairs = [(item, each) for item in sets for each in checks_of(config)]
    with tqdm(pairs, unit=" checks", desc="quality", mininterval=0.5) as progress:
        return [each(item) for item, each in progress]
