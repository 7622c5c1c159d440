"""Labels that the networks contradict: texts and boxes.

Sound only where the networks have not trained on the samples. Confident learning (Northcutt, Jiang, Chuang,
JAIR 2021) compares a label's probability with the mean of its class. A text is one class of millions, whose
own mean confidence cannot be known; so all texts have one threshold. Of characters there are few, and
CleanLab says by confident learning which one of a suspected text is wrong.
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
"""What centres of boxes that were found are off by at any rate, in widths of the box."""
_LOG10 = float(np.log(10))


def wrong_text(evidence: Evidence) -> Scores:
    """How much likelier another text is: ``log10(other³ / given)`` of their probabilities.

    The ratio alone suspects texts of which the network can make nothing; so it counts more that the
    network does not doubt the other text than that it does not see the given one.
    """
    evidence.must_be_unseen()
    texts, plates = evidence.texts, evidence.samples.labels["plate"].tolist()
    values = np.where(texts.asked, (3 * texts.other - texts.given) / _LOG10, np.nan)
    # Agreement: no other text is likelier.
    agree = texts.asked & np.isneginf(texts.other)
    has_text = np.array([bool(plate) for plate in plates])
    _listen_to(agree, texts.asked & has_text, texts.asked & ~has_text)
    doubtful = _doubtful_characters(plates, texts)

    def why(row: int) -> str:
        other, given = texts.texts[row] or "nothing to read", plates[row] or "nothing to read"
        place = f"; character {doubtful[row] + 1}" if row in doubtful else ""
        return f"given {given}, read {other} with {np.exp(texts.other[row]):.3f}{place}"

    suspected = np.flatnonzero(values > evidence.params.WRONG_TEXT[0])
    return Scores(
        values,
        why,
        measures={"agreement": float(agree.sum() / texts.asked.sum())},
        tables={"confused": _confused(plates, texts, suspected)},
    )


def _listen_to(agree: NDArray[np.bool_], *kinds: NDArray[np.bool_]) -> None:
    """A network that contradicts too many labels of one of the kinds knows too little to accuse them.

    Raises:
        NotCheckedError: so it is.
    """
    counts = [(int((agree & kind).sum()), int(kind.sum())) for kind in kinds if kind.any()]
    for right, asked in counts or [(0, 0)]:
        if not is_reliable(right, asked):
            raise NotCheckedError(
                f"the network agrees with {right} of {asked} labels only: what it contradicts says "
                "nothing"
            )


def _doubtful_characters(plates: list[str], texts: TextOpinions) -> dict[int, int]:
    """By row, the number of the character that CleanLab suspects most, of texts as long as was read."""
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
        # Of classes that a small set lacks.
        warnings.simplefilter("ignore")
        issues = find_label_issues(labels, [texts.characters[row] for row in rows], n_jobs=1)
    # The most suspected one comes first.
    return {rows[number]: int(character) for number, character in reversed(issues)}


def _confused(plates: list[str], texts: TextOpinions, rows: NDArray[np.intp]) -> pd.DataFrame:
    """How often a character is given and another one read, of suspected texts of the same length."""
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
    """The shift of the box, in standard deviations of what the network is unsure by, times its score.

    These are twice those over its looks, and LEAST_ERROR beside. Pictures in which it finds nothing
    have a score of 0; those in which it finds a plate where the label has none are ``missed_plate``'s.
    """
    values = _shifts(evidence)
    boxes = evidence.boxes

    def why(row: int) -> str:
        x, y = boxes.shift[row]
        return (
            f"found {x:+.0%} of its width to the right, {y:+.0%} down; score {boxes.score[row]:.2f}"
        )

    return Scores(values, why)


def _shifts(evidence: Evidence) -> NDArray[np.float64]:
    """``(n,)`` scores of boxes, not a number where there is none, by a network that knows plates.

    Raises:
        NotCheckedError: it finds too few plates where they are.
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
    """The localizer's score in pictures that are said to have no plate."""
    values = _shifts(evidence)
    empty = np.isnan(values)
    if not empty.any():
        raise NotCheckedError("all samples have a plate")
    score = evidence.boxes.found.score
    _listen_to(score <= evidence.params.MISSED_PLATE[0], empty)
    values = np.where(empty, score, np.nan)
    return Scores(values, lambda row: f"a plate is found with a score of {values[row]:.2f}")
