"""Label errors: texts and boxes that the networks contradict.

The scores are valid only if the networks have not been trained on the samples. Confident learning
(Northcutt, Jiang, Chuang, JAIR 2021) compares a label's probability with the mean confidence of its
class. A text is one of millions of classes, whose mean confidence cannot be estimated, so all texts
share one threshold. Characters form few classes, so CleanLab uses confident learning to find the wrong
character of a suspected text.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..inference.detection import SURE
from .base import Evidence, NotCheckedError, Scores
from .opinions import TextOpinions, is_reliable

LEAST_SAMPLES = 200
LEAST_ERROR = 0.04
"""Minimum localization error of the centre of a detected box, in widths of the labelled box."""
_LOG10 = float(np.log(10))


def wrong_text(evidence: Evidence) -> Scores:
    """Score texts by how much likelier another text is.

    The score is ``log10(other³ / given)`` of the two probabilities. The plain ratio would also suspect
    texts that the network cannot read at all. With the cube, the network's confidence in the other text
    counts more than its failure to see the given one.
    """
    evidence.must_be_unseen()
    texts, plates = evidence.texts, evidence.samples.labels["plate"].tolist()
    values = np.where(texts.asked, (3 * texts.other - texts.given) / _LOG10, np.nan)
    # The network agrees with a label if no other text is likelier.
    agree = texts.asked & np.isneginf(texts.other)
    has_text = np.array([bool(plate) for plate in plates])
    _listen_to(agree, texts.asked & has_text, texts.asked & ~has_text)
    doubtful = _doubtful_characters(plates, texts)

    def why(row: int) -> str:
        other, given = texts.texts[row] or "no text", plates[row] or "no text"
        place = f"; suspected character: {doubtful[row] + 1}" if row in doubtful else ""
        return (
            f"labelled {given}, read {other} with probability {np.exp(texts.other[row]):.3f}{place}"
        )

    suspected = np.flatnonzero(values > evidence.params.WRONG_TEXT[0])
    return Scores(
        values,
        why,
        measures={"agreement": float(agree.sum() / texts.asked.sum())},
        tables={"confused": _confused(plates, texts, suspected)},
    )


def _listen_to(agree: NDArray[np.bool_], *kinds: NDArray[np.bool_]) -> None:
    """Require that the network agrees with enough labels of each kind for its objections to count.

    Args:
        agree: Mask of the samples whose label the network agrees with, shape ``(n,)``.
        *kinds: Masks of the samples of each kind, shape ``(n,)``.

    Raises:
        NotCheckedError: The network contradicts too many labels of one of the kinds.
    """
    counts = [(int((agree & kind).sum()), int(kind.sum())) for kind in kinds if kind.any()]
    for right, asked in counts or [(0, 0)]:
        if not is_reliable(right, asked):
            raise NotCheckedError(
                f"the network agrees with only {right} of {asked} labels, so its contradictions are "
                "not evidence of label errors"
            )


def _doubtful_characters(plates: list[str], texts: TextOpinions) -> dict[int, int]:
    """Return the position of the character that CleanLab suspects most, by row.

    Only rows whose label has as many characters as the text that was read are included.
    """
    from cleanlab.token_classification.filter import (  # type: ignore[import-untyped]  # no stubs
        find_label_issues,
    )

    rows = [
        row
        for row in np.flatnonzero(texts.asked).tolist()
        if plates[row] and len(plates[row]) == len(texts.first[row])
    ]
    labels = [CHARSET.encode(plates[row]) for row in rows]
    if not labels:
        return {}
    with warnings.catch_warnings():
        # CleanLab warns of classes that a small set lacks.
        warnings.simplefilter("ignore")
        issues = find_label_issues(labels, [texts.characters[row] for row in rows], n_jobs=1)
    # Issues are sorted by descending suspicion; in reverse, the most suspected character of a row wins.
    return {rows[number]: int(character) for number, character in reversed(issues)}


def _confused(plates: list[str], texts: TextOpinions, rows: NDArray[np.intp]) -> pd.DataFrame:
    """Count the pairs of given and read characters that differ, in suspected texts of equal length."""
    pairs = [
        (CHARSET.tokens[given], CHARSET.tokens[read])
        for row in rows.tolist()
        if plates[row] and len(plates[row]) == len(texts.texts[row])
        for given, read in zip(
            CHARSET.encode(plates[row]), CHARSET.encode(texts.texts[row]), strict=True
        )
        if given != read
    ]
    return pd.DataFrame(pairs, columns=["given", "read"]).value_counts().reset_index(name="count")


def wrong_box(evidence: Evidence) -> Scores:
    """Score boxes by their shift from the detected box relative to the network's uncertainty.

    The score is the shift in standard deviations, times the detection score. The standard deviation
    combines twice the spread over the augmented passes with ``LEAST_ERROR``. The score is 0 where the
    network finds nothing; plates found where the label has none are left to ``missed_plate``.
    """
    values = _shifts(evidence)
    boxes = evidence.boxes

    def why(row: int) -> str:
        x, y = boxes.shift[row]
        where = f"{x:+.0%} of its width to the right, {y:+.0%} down"
        return f"detected {where}; score {boxes.score[row]:.2f}"

    return Scores(values, why)


def _shifts(evidence: Evidence) -> NDArray[np.float64]:
    """Return the scores of the boxes, shape ``(n,)``; NaN where the label has no plate.

    Raises:
        NotCheckedError: The network finds too few of the labelled plates.
    """
    evidence.must_be_unseen()
    boxes = evidence.boxes
    present = evidence.samples.labels["present"].to_numpy(bool)
    spread = np.sqrt(LEAST_ERROR**2 + (2 * boxes.spread) ** 2)
    values = np.abs(boxes.shift / spread).max(axis=1) * boxes.score
    found = (boxes.score >= SURE) & ~np.isnan(values)
    _listen_to(found & (values <= evidence.params.WRONG_BOX[0]), present)
    return np.where(present, np.where(found, values, 0.0), np.nan)


def missed_plate(evidence: Evidence) -> Scores:
    """Score images labelled as having no plate by the localizer's detection score."""
    values = _shifts(evidence)
    empty = np.isnan(values)
    if not empty.any():
        raise NotCheckedError("all samples have a plate")
    score = evidence.boxes.found.score
    _listen_to(score <= evidence.params.MISSED_PLATE[0], empty)
    values = np.where(empty, score, np.nan)
    return Scores(values, lambda row: f"a plate is detected with a score of {values[row]:.2f}")
