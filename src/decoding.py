"""CTC decoding under the plates' grammar (numpy only, no torch).

The grammar of src/charset.py is a chain: a canton, then one to seven digits of which the first is
no zero. So the best path that obeys it is found exactly, without a beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from src.charset import CANTONS, CHARSET

_FIRST_DIGIT = len(CANTONS)
# A probability of zero, kept finite so that a path of it still beats what the grammar forbids.
_LOWEST = -1e6


@dataclass(frozen=True)
class Reading:
    """What a reader made of one crop.

    Attributes:
        text: a canton and its number; it obeys the grammar.
        confidence: probability that the reader gives the text, summed over all CTC paths. It is the
            network's own opinion, not calibrated: 0.9 does not mean right in nine cases of ten.
        char_confidences: for the canton and each digit, the highest probability of its class along
            the best path.
    """

    text: str
    confidence: float
    char_confidences: tuple[float, ...]


def greedy(log_probs: NDArray[np.floating]) -> list[str]:
    """The texts of the best paths, whatever the grammar says: ``7ZH`` or nothing are possible.

    Args:
        log_probs: ``(N, T, C)`` log-probabilities of the classes at each step.
    """
    classes, lengths, _ = _collapse(_checked(log_probs).argmax(axis=2))
    return _texts(classes, lengths)


def decode(log_probs: NDArray[np.floating]) -> list[Reading]:
    """Read each sample along its best path that obeys the grammar.

    Args:
        log_probs: ``(N, T, C)`` log-probabilities of the classes at each step, T at least 2.

    Raises:
        ValueError: the shape is another one, or a value is no number.
    """
    log_probs = _checked(log_probs)
    paths = log_probs.argmax(axis=2)
    # The best of all paths, where it obeys the grammar, is the best of those that do.
    invalid = np.flatnonzero(~_valid(*_collapse(paths)[:2]))
    if len(invalid):
        paths[invalid] = _best_paths(log_probs[invalid])
    classes, lengths, positions = _collapse(paths)
    confidences = np.exp(_log_probabilities(log_probs, classes, lengths))
    peaks = _peaks(log_probs, paths, positions)
    return [
        Reading(text, min(1.0, float(confidence)), tuple(peak[:length].tolist()))
        for text, confidence, peak, length in zip(
            _texts(classes, lengths), confidences, peaks, lengths, strict=True
        )
    ]


def _checked(log_probs: NDArray[np.floating]) -> NDArray[np.float64]:
    if log_probs.ndim != 3 or log_probs.shape[1] < 2 or log_probs.shape[2] != CHARSET.num_classes:
        raise ValueError(
            f"log_probs must be (N, T, {CHARSET.num_classes}) with T of at least 2, "
            f"not {log_probs.shape}"
        )
    if np.isnan(log_probs).any():
        raise ValueError("log_probs hold values that are no numbers: the reader is broken")
    return np.maximum(log_probs, _LOWEST, dtype=np.float64)


def _collapse(
    paths: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Merge repeats and drop blanks.

    Args:
        paths: ``(N, T)`` classes.

    Returns:
        ``(N, T)`` classes of the texts, filled up with blanks; ``(N,)`` their lengths; ``(N, T)``
        the character that each step belongs to (a blank: the one before it).
    """
    starts = paths != CHARSET.blank
    starts[:, 1:] &= paths[:, 1:] != paths[:, :-1]
    positions = np.cumsum(starts, axis=1) - 1
    classes = np.full(paths.shape, CHARSET.blank)
    rows, steps = np.nonzero(starts)
    classes[rows, positions[rows, steps]] = paths[rows, steps]
    return classes, starts.sum(axis=1), positions


def _texts(classes: NDArray[np.intp], lengths: NDArray[np.intp]) -> list[str]:
    return [
        CHARSET.decode(row[:length])
        for row, length in zip(classes.tolist(), lengths.tolist(), strict=True)
    ]


def _valid(classes: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.bool_]:
    """``(N,)``: whether collapsed ``(N, T)`` classes obey the grammar."""
    digits = (classes >= _FIRST_DIGIT) & (classes != CHARSET.blank)
    return (
        (lengths >= 2)
        & (lengths <= CHARSET.max_length)
        & (classes[:, 0] < _FIRST_DIGIT)
        & (digits.sum(axis=1) == lengths - 1)
        & (classes[:, 1] != _FIRST_DIGIT)
    )


@dataclass(frozen=True)
class _Automaton:
    """The grammar's CTC states, each a class at a position of the text.

    Attributes:
        classes: ``(S,)`` class that a state emits.
        predecessors: ``(S, P)`` states that may come before beside itself; filled up with S.
        initial: ``(S,)`` whether a path may start there.
        final: ``(S,)`` whether a path may end there.
    """

    classes: NDArray[np.intp]
    predecessors: NDArray[np.intp]
    initial: NDArray[np.bool_]
    final: NDArray[np.bool_]


@cache
def _automaton() -> _Automaton:
    digits = list(range(_FIRST_DIGIT, CHARSET.blank))
    # Allowed classes of the first, second, … character; position 0 is before the first.
    allowed = [[], list(range(_FIRST_DIGIT)), digits[1:], *[digits] * (CHARSET.max_length - 2)]
    states = [
        (position, character)
        for position, characters in enumerate(allowed)
        # A blank forgets the character before it: what may follow depends on the position alone.
        for character in [CHARSET.blank, *characters]
    ]

    def may_follow(before: tuple[int, int], after: tuple[int, int]) -> bool:
        if after[1] == CHARSET.blank:
            return before[0] == after[0] and before != after
        # Equal neighbours would merge: a repeated digit needs a blank between.
        return before[0] + 1 == after[0] and before[1] != after[1]

    found = [[i for i, b in enumerate(states) if may_follow(b, after)] for after in states]
    predecessors = np.full((len(states), max(map(len, found))), len(states))
    for row, before in zip(predecessors, found, strict=True):
        row[: len(before)] = before
    positions = np.array([position for position, _ in states])
    classes = np.array([character for _, character in states])
    first = (positions == 0) | ((positions == 1) & (classes != CHARSET.blank))
    return _Automaton(classes, predecessors, first, positions >= 2)


def _best_paths(log_probs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Viterbi: ``(N, T, C)`` to the ``(N, T)`` classes of the best paths that obey the grammar."""
    automaton = _automaton()
    count, steps, _ = log_probs.shape
    number = len(automaton.classes)
    # States first, samples last: each line of the search is then one run through the samples.
    emissions = log_probs.transpose(1, 2, 0)
    best_before = np.empty((steps, number, count), dtype=np.intp)
    # The last row is the state that the predecessors are filled up with; no path comes from it.
    scores = np.full((number + 1, count), -np.inf)
    scores[:-1][automaton.initial] = emissions[0, automaton.classes[automaton.initial]]
    for step in range(1, steps):
        best = scores[:-1].copy()
        before = np.tile(np.arange(number)[:, None], count)
        for candidates in automaton.predecessors.T:
            value = scores[candidates]
            better = value > best
            np.copyto(best, value, where=better)
            np.copyto(before, candidates[:, None], where=better)
        scores[:-1] = best + emissions[step, automaton.classes]
        best_before[step] = before
    states = np.empty((steps, count), dtype=np.intp)
    states[-1] = np.where(automaton.final[:, None], scores[:-1], -np.inf).argmax(axis=0)
    for step in range(steps - 1, 0, -1):
        states[step - 1] = best_before[step, states[step], np.arange(count)]
    return automaton.classes[states.T]


def _log_probabilities(
    log_probs: NDArray[np.float64], classes: NDArray[np.intp], lengths: NDArray[np.intp]
) -> NDArray[np.float64]:
    """CTC's forward algorithm (Graves et al., 2006, section 4.1).

    Args:
        log_probs: ``(N, T, C)``.
        classes: ``(N, T)`` texts, filled up with blanks.
        lengths: ``(N,)`` of the texts, 1 at least.

    Returns:
        ``(N,)`` log-probabilities of the texts, summed over all their paths.
    """
    count, steps, _ = log_probs.shape
    longest = int(lengths.max(initial=1))
    extended = np.full((count, 2 * longest + 1), CHARSET.blank)
    extended[:, 1::2] = classes[:, :longest]
    # A blank between two different characters may be skipped.
    skips = np.zeros(extended.shape, dtype=bool)
    skips[:, 3::2] = extended[:, 3::2] != extended[:, 1:-2:2]
    alpha = np.full(extended.shape, -np.inf)
    alpha[:, :2] = np.take_along_axis(log_probs[:, 0], extended[:, :2], axis=1)
    for step in range(1, steps):
        stepped = alpha.copy()
        stepped[:, 1:] = np.logaddexp(stepped[:, 1:], alpha[:, :-1])
        skipped = np.where(skips[:, 2:], alpha[:, :-2], -np.inf)
        stepped[:, 2:] = np.logaddexp(stepped[:, 2:], skipped)
        alpha = stepped + np.take_along_axis(log_probs[:, step], extended, axis=1)
    rows = np.arange(count)
    return np.logaddexp(alpha[rows, 2 * lengths], alpha[rows, 2 * lengths - 1])


def _peaks(
    log_probs: NDArray[np.float64], paths: NDArray[np.intp], positions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """``(N, T)``: of each character the highest probability of its class along ``(N, T)`` paths."""
    peaks = np.zeros(paths.shape)
    rows, steps = np.nonzero(paths != CHARSET.blank)
    values = np.exp(log_probs[rows, steps, paths[rows, steps]])
    np.maximum.at(peaks, (rows, positions[rows, steps]), values)
    return peaks
