"""What the recognizer takes for what: probabilities of single characters, and of whole texts.

A text is read character by character: the canton as another canton; each digit as another digit or as none;
and digits that are not there, before, between and behind those that are. The probabilities are measured on
the recognizer's validation set (``python bench/confusions.py --write``); ``confusions.json`` beside this
file is the only place that has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..core.charset import CANTONS, DIGITS, MAX_DIGITS

FILE = Path(__file__).with_name("confusions.json")

Floats = NDArray[np.float64]


class Confusions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities of what is read, given what is there.

    Attributes:
        cantons: Probability of each canton as read (column) for each canton (row), in the order of
            ``CANTONS``; rows sum to 1.
        digits: Probability of each digit as read (column) for each digit (row); a row and its ``missed``
            sum to 1.
        missed: Probability that a digit is not read, for each digit.
        extra: Probability of one more digit that is not there, at any one place.
        extras: Probability of each digit, if one is read that is not there; they sum to 1.
        plates: Number of plates that it was measured on.
        command: Command that measured it.
    """

    cantons: tuple[tuple[float, ...], ...]
    digits: tuple[tuple[float, ...], ...]
    missed: tuple[float, ...]
    extra: float
    extras: tuple[float, ...]
    plates: int
    command: str

    def __post_init__(self) -> None:
        cantons, digits = np.array(self.cantons), np.array(self.digits)
        missed, extras = np.array(self.missed), np.array(self.extras)
        if cantons.shape != (len(CANTONS),) * 2 or digits.shape != (len(DIGITS),) * 2:
            raise ValueError("it must have a row and a column for each canton and for each digit")
        sums = [*cantons.sum(axis=1), *(digits.sum(axis=1) + missed), extras.sum()]
        values = [*cantons.flat, *digits.flat, *missed, *extras, self.extra]
        if not np.allclose(sums, 1, atol=1e-3) or min(values) <= 0 or max(values) >= 1:
            raise ValueError(
                "its probabilities must be between 0 and 1, and those of a row sum to 1"
            )

    def likelihood(self, read: str, plate: str) -> float:
        """Return the probability that a text is read, given the plate.

        Args:
            read: Text that was read, of the grammar of src/core/charset.py.
            plate: Text of the plate, of the same grammar.
        """
        canton = self.cantons[CANTONS.index(plate[:2])][CANTONS.index(read[:2])]
        rows = [int(digit) for digit in plate[2:]]
        taken, missed = np.array(self.digits)[rows], np.array(self.missed)[rows]
        return canton * float(self._read_digits(read, taken, missed)[-1])

    def total(self, read: str) -> float:
        """Return the sum of the likelihoods of a text over all plates of the grammar.

        Args:
            read: Text that was read, of the grammar.
        """
        canton = sum(row[CANTONS.index(read[:2])] for row in self.cantons)
        digits, missed = np.array(self.digits), np.array(self.missed)
        # A place whose digit may be any is the sum over the digits; the first one is not zero.
        taken = np.stack([digits[1:].sum(axis=0), *[digits.sum(axis=0)] * (MAX_DIGITS - 1)])
        skipped = np.array([missed[1:].sum(), *[missed.sum()] * (MAX_DIGITS - 1)])
        return canton * float(self._read_digits(read, taken, skipped)[1:].sum())

    def _read_digits(self, read: str, taken: Floats, missed: Floats) -> Floats:
        """Return the probability of the digits of a text after each number of digits of the plate.

        It is the forward algorithm of a pair hidden Markov model (Durbin et al.: Biological sequence
        analysis, 1998, section 4.2).

        Args:
            read: Text that was read.
            taken: Weights of each digit as read at each place of the plate, shape ``(N, 10)``.
            missed: Weights that the digit at each place is not read, shape ``(N,)``.

        Returns:
            Sums over all alignments, shape ``(N + 1,)``.
        """
        seen = [int(digit) for digit in read[2:]]
        more = self.extra * np.array(self.extras)[seen]

        def with_extras(reached: Floats) -> Floats:
            """Add digits that are not there, any number of them, at one place."""
            for index, weight in enumerate(more):
                reached[index + 1] += weight * reached[index]
            return reached * (1 - self.extra)

        start = np.zeros(len(seen) + 1)
        start[0] = 1.0
        reached = with_extras(start)
        ends = [reached[-1]]
        for weights, skip in zip(taken, missed, strict=True):
            moved = skip * reached
            moved[1:] += weights[seen] * reached[:-1]
            reached = with_extras(moved)
            ends.append(reached[-1])
        return np.array(ends)


@cache
def confusions() -> Confusions:
    """Return the probabilities that are installed with this package."""
    return msgspec.json.decode(FILE.read_bytes(), type=Confusions)


def posterior(
    plates: Sequence[str], alternatives: Sequence[tuple[str, float]], table: Confusions
) -> list[float]:
    """Return the probability of each plate, given an event's most probable texts.

    The probability of a text among the alternatives is calibrated, and stays. What the alternatives leave of
    1 goes to all other plates by Bayes' rule: beforehand each is equally probable, and its likelihood is
    that of what was read; where that is not certain, the mean over the alternatives by their probabilities
    (Jeffrey's rule: The logic of decision, 1965, chapter 11).

    Args:
        plates: Texts of the grammar.
        alternatives: Different texts of the grammar with their calibrated probabilities, at least one.
        table: What is taken for what.
    """
    known = dict(alternatives)
    share = math.fsum(known.values())
    rest = max(1.0 - share, 0.0)
    weights = {text: chance / share for text, chance in known.items()} if share > 0 else known
    others = {
        text: table.total(text) - math.fsum(table.likelihood(text, each) for each in known)
        for text in weights
    }
    return [
        known[plate]
        if plate in known
        else rest
        * math.fsum(
            weight * table.likelihood(text, plate) / others[text]
            for text, weight in weights.items()
        )
        for plate in plates
    ]
