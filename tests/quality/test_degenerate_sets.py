"""Sets that no statistics fit: one canton, one image, nothing but copies, no image that can be read.

All checks are made, with networks that answer everything. What cannot be judged is said in words: no
exception, no warning of a library, and a report.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.errors import StageError
from src.quality.base import Evidence
from src.quality.samples import FloatArray, Samples
from src.quality.suite import check, checks_of, run
from tests.quality.sets import CONFIG, evidence_of, finder, noise, reader, samples_of, text_of


def describe(samples: Samples) -> FloatArray:
    """Features: the image's own pixels, coarsely."""
    return np.array([samples.image(row)[::8, ::8].ravel() / 255.0 for row in range(len(samples))])


def looked_at(samples: Samples, against: Evidence | None = None) -> Evidence:
    evidence = evidence_of(
        samples, against=against, find=finder({}), read=reader(text_of), describe=describe
    )
    return replace(evidence, samples=samples.sampled(10**6, 0))


def one_canton() -> Samples:
    return samples_of(60, plate=[f"ZH{10_000 + 7 * i}" for i in range(60)])


def copies() -> Samples:
    return replace(samples_of(100, plate=text_of(3)), load=lambda _: noise(3))


def black() -> Samples:
    return replace(samples_of(60), load=lambda _: np.zeros((48, 48), np.uint8))


def without_plates() -> Samples:
    samples = samples_of(60, plate="", present=False)
    samples.labels[["cx", "cy", "w", "h"]] = np.nan
    return samples


def without_images() -> Samples:
    return samples_of(3, problem="there is no such file")


KINDS = {
    "one canton": one_canton,
    "one image": lambda: samples_of(1),
    "copies": copies,
    "black": black,
    "no plates": without_plates,
    "no images": without_images,
}


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        *((kind, "alone") for kind in KINDS),
        *((kind, "against a set") for kind in ("one image", "copies", "no images")),
        *((kind, "against itself") for kind in ("copies", "black", "no images")),
    ],
)
def test_every_check_answers_in_words(tmp_path: Path, kind: str, other: str) -> None:
    samples = KINDS[kind]()
    against = None
    if other != "alone":
        against = looked_at(samples_of(60) if other == "against a set" else KINDS[kind]())
    evidence = looked_at(samples, against)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Whether a limit is exceeded is not the question here.
        with contextlib.suppress(StageError):
            run([evidence], CONFIG, tmp_path / "out", kind)
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    shown = re.sub(r"data:image[^\"]*", "", report).lower()
    assert not re.search(r"\b(nan|inf)\b", shown)
    results = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))[samples.name]
    assert set(results) == {each.name for each in checks_of(CONFIG)}
    for result in results.values():
        assert result.get("not_checked") or 0 <= result["flagged"] <= result["samples"]
    flagged = pd.read_csv(tmp_path / "out/flagged.csv")
    assert len(flagged) == sum(min(each.get("flagged", 0), 200) for each in results.values())


def test_copies_are_told_as_copies() -> None:
    found = check([evidence_of(copies(), describe=describe)], CONFIG)
    findings = {finding.check.name: finding for finding in found}
    assert len(findings["exact_duplicates"].flagged) == 99
    assert findings["exact_duplicates"].failed
    assert not len(findings["near_duplicates"].flagged)
    assert findings["clusters"].warning == "all images have the same features"
