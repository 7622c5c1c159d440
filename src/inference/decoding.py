"""Decode CTC outputs under the grammar of number plates (numpy only, no torch).

The grammar of src/core/charset.py is a chain: a canton, then one to seven digits, the first of which is
not zero. The best path that obeys it can therefore be found exactly, without beam search.

A plate is decoded while a user waits for it, alone or with a few others, so the number of numpy calls
matters more than the size of the arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..core.charset import CANTONS, CHARSET

_FIRST_DIGIT = len(CANTONS)
_BLANK = CHARSET.blank
# Lower bound of probabilities, so that those of a whole path stay within float64 even where a network is
# sure of another text: 1e-9 to the power of 32 steps is 1e-288.
_LEAST = 1e-9
# Logarithm of zero, kept finite so that a path through it still beats what the grammar forbids.
_LOWEST = -1e6
# Range of classes (first, one past the last) of the canton, of the first digit, which is not zero, and
# of further digits.
_ALLOWED = [(0, _FIRST_DIGIT), (_FIRST_DIGIT + 1, _BLANK)]
_ALLOWED += [(_FIRST_DIGIT, _BLANK)] * (CHARSET.max_length - 2)


@dataclass(frozen=True)
class Reading:
    """Text that the recognizer read from one crop.

    Where there is nothing to read, the text is the most likely one that the grammar allows, and its
    confidence is close to zero.

    Attributes:
        text: Canton and number; the text obeys the grammar.
        confidence: Probability that the recognizer gives to the text, summed over all CTC paths. It is
            the network's own estimate and not calibrated: 0.9 does not mean right in nine cases out of
            ten.
        char_confidences: Highest probability of the class along the best path, for the canton and each
            digit.
        layout: Logits of ``LAYOUT`` (src/core/layout.py); empty where the recognizer has none.
    """

    text: str
    confidence: float
    char_confidences: tuple[float, ...]
    layout: tuple[float, ...] = ()

    @property
    def complete(self) -> float:
        """Probability that all characters of the plate can be read; 1 where that is unknown."""
        return _probability(self.layout[0]) if self.layout else 1.0

    @property
    def swiss(self) -> float:
        """Probability that the plate is Swiss; 1 where that is unknown."""
        return _probability(self.layout[1]) if self.layout else 1.0


def _probability(logit: float) -> float:
    # Sigmoid as a hyperbolic tangent, which never overflows.
    return 0.5 * (1 + math.tanh(logit / 2))


def greedy(log_probs: NDArray[np.floating]) -> list[str]:
    """Return the texts of the best paths regardless of the grammar, such as ``7ZH`` or an empty text.

    Args:
        log_probs: Log-probabilities of the classes at each step, shape ``(N, T, C)``.
    """
    paths = _best_classes(log_probs[..., : CHARSET.num_classes])
    return [_spell(text) for text in _collapse(paths)[0]]


def decode(log_probs: NDArray[np.floating]) -> list[Reading]:
    """Decode each sample along its best path that obeys the grammar.

    Args:
        log_probs: Log-probabilities of the classes at each step, shape ``(N, T, C)``, with T of at least
            2; behind them may be the logits of the layout, shape ``(N, T, C + len(LAYOUT))``.

    Raises:
        ValueError: The shape is wrong, or a value is NaN.
    """
    layouts = log_probs[:, 0, CHARSET.num_classes :] if log_probs.ndim == 3 else log_probs
    log_probs = log_probs[..., : CHARSET.num_classes]
    paths = _best_classes(log_probs)
    if not len(paths):
        return []
    texts, starts = _collapse(paths)
    # If the best of all paths obeys the grammar, it is also the best of those that do.
    if invalid := [row for row, text in enumerate(texts) if not _is_valid(text)]:
        paths[invalid] = _best_paths(log_probs[invalid])
        texts, starts = _collapse(paths)
    confidences = np.minimum(_probabilities(log_probs, texts), 1.0).tolist()
    # Peak of each character: its best step before the next character starts, without blanks.
    along = np.exp(np.take_along_axis(log_probs, paths[..., None], axis=2)[..., 0])
    peaks = np.maximum.reduceat(np.where(paths == _BLANK, 0, along).ravel(), starts).tolist()
    ends = np.cumsum([len(text) for text in texts]).tolist()
    return [
        Reading(_spell(text), confidence, tuple(peaks[start:end]), tuple(layout))
        for text, confidence, (start, end), layout in zip(
            texts, confidences, pairwise([0, *ends]), layouts.tolist(), strict=True
        )
    ]


def _best_classes(log_probs: NDArray[np.floating]) -> NDArray[np.intp]:
    """Check ``(N, T, C)`` log-probabilities and return the likeliest class of each step, ``(N, T)``."""
    if log_probs.ndim != 3 or log_probs.shape[1] < 2 or log_probs.shape[2] != CHARSET.num_classes:
        raise ValueError(
            f"log_probs must have the shape (N, T, {CHARSET.num_classes}) with T >= 2, not "
            f"{log_probs.shape}"
        )
    # `argmax` and `max` treat NaN as the maximum, so reject NaN first.
    if np.isnan(log_probs.max(initial=_LOWEST)):
        raise ValueError("log_probs contain NaN: the recognizer is broken")
    return log_probs.argmax(axis=2)


def _collapse(paths: NDArray[np.intp]) -> tuple[list[list[int]], NDArray[np.intp]]:
    """Merge repeats and drop blanks.

    Args:
        paths: Classes along each path, shape ``(N, T)``.

    Returns:
        Classes of each text, and the first step of each character of all texts in sequence, as an index
        into all ``N * T`` steps.
    """
    begins = paths != _BLANK
    begins[:, 1:] &= paths[:, 1:] != paths[:, :-1]
    starts = np.flatnonzero(begins)
    classes = paths.ravel()[starts].tolist()
    ends = begins.sum(axis=1).cumsum().tolist()
    return [classes[start:end] for start, end in pairwise([0, *ends])], starts


def _spell(classes: list[int]) -> str:
    return "".join([CHARSET.tokens[index] for index in classes])


def _is_valid(classes: list[int]) -> bool:
    """Return whether a text obeys the grammar."""
    return (
        2 <= len(classes) <= CHARSET.max_length
        and classes[0] < _FIRST_DIGIT < classes[1]
        and min(classes[1:]) >= _FIRST_DIGIT
    )


def _best_paths(log_probs: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the best paths that obey the grammar, found with the Viterbi algorithm.

    The recursion runs over the characters of a text instead of the steps, of which there are more:
    staying in a class from one step to another costs the difference of that class's running sums, so the
    best step to enter it is found with a running maximum.

    A character may follow an equal one without a blank in between, although CTC merges the two: the path
    is then that of a text with one digit fewer, which obeys the grammar as well. How a path may continue
    therefore depends on how many characters it has, and not on which.

    Args:
        log_probs: Log-probabilities of the classes at each step, shape ``(N, T, C)``.

    Returns:
        Classes along the best paths, shape ``(N, T)``.
    """
    count, steps, classes = log_probs.shape
    # Classes first, so that comparing classes is one run through steps and samples.
    sums = np.zeros((classes, steps + 1, count))
    np.cumsum(
        np.maximum(log_probs, _LOWEST, dtype=np.float64).transpose(2, 1, 0), axis=1, out=sums[:, 1:]
    )
    blank = sums[_BLANK]
    best = blank
    lasts, stays, bests = [], [], []
    for first, after in _ALLOWED:
        # Scores after each number of steps. `best`: the best paths with the characters before this one;
        # `in_class`: paths in a class of this character; `in_blank`: paths in a blank after it.
        own = sums[first:after]
        in_class = np.full(own.shape, -np.inf)
        in_class[:, 1:] = np.maximum.accumulate(best[:-1] - own[:, :-1], axis=1) + own[:, 1:]
        stays.append(in_class[:, :-1] >= best[:-1])
        in_best = in_class.max(axis=0)
        in_blank = np.full(in_best.shape, -np.inf)
        in_blank[1:] = np.maximum.accumulate(in_best[:-1] - blank[:-1], axis=0) + blank[1:]
        lasts.append(np.where(in_blank >= in_best, -1, in_class.argmax(axis=0)))
        best = np.maximum(in_best, in_blank)
        bests.append(best[-1])
    paths = np.full((count, steps), _BLANK)
    # A canton alone is not a valid text.
    characters = np.argmax(bests[1:], axis=0) + 1
    for row, path in enumerate(paths):
        last, stayed = [item[:, row] for item in lasts], [item[..., row] for item in stays]
        character = int(characters[row])
        place = last[character][-1]
        for step in range(steps - 1, -1, -1):
            if place >= 0:
                path[step] = _ALLOWED[character][0] + place
                if stayed[character][place, step]:
                    continue
                if character == 0:
                    break
                character -= 1
            place = last[character][step]
    return paths


def _probabilities(log_probs: NDArray[np.floating], texts: list[list[int]]) -> NDArray[np.float64]:
    """Return the probabilities of texts by CTC's forward algorithm (Graves et al., 2006, section 4.1).

    Args:
        log_probs: Log-probabilities of the classes at each step, shape ``(N, T, C)``.
        texts: Classes of each text, at least one per text.

    Returns:
        Probabilities of the texts, summed over all their paths, shape ``(N,)``.
    """
    # States first, samples last: each row is then one run through the samples.
    lengths, samples = np.array([len(text) for text in texts]), np.arange(len(texts))
    states = np.full((2 * int(lengths.max()) + 1, len(texts)), _BLANK)
    for column, text in zip(states.T, texts, strict=True):
        column[1 : 2 * len(text) : 2] = text
    # A blank between two different characters may be skipped.
    skips = np.zeros(states.shape)
    skips[3::2] = states[3::2] != states[1:-2:2]
    emitted = np.maximum(
        np.exp(log_probs.transpose(1, 2, 0)[:, states, samples]), _LEAST, dtype=np.float64
    )
    # Two rows of zeros before the states, which contribute nothing; the path starts as if in the first
    # state.
    alpha = np.zeros((len(states) + 2, len(texts)))
    alpha[2] = 1
    stay, step_on, skip = alpha[2:], alpha[1:-1], alpha[:-2]
    moved, skipped = np.empty_like(skips), np.empty_like(skips)
    for emission in emitted:
        np.multiply(skip, skips, out=skipped)
        np.add(stay, step_on, out=moved)
        np.add(moved, skipped, out=moved)
        np.multiply(moved, emission, out=stay)
    return stay[2 * lengths, samples] + stay[2 * lengths - 1, samples]


_BEAM = 48
"""Number of prefixes that the search for alternatives keeps at each step."""


def most_likely(log_probs: NDArray[np.floating], count: int) -> list[tuple[str, float]]:
    """Return the most likely texts of one sample that obey the grammar, with their probabilities.

    The search keeps the most likely prefixes at each step, as in Graves and Jaitly: Towards end-to-end
    speech recognition with recurrent neural networks (ICML 2014). A prefix may only grow by the classes
    that the grammar allows behind it.

    Args:
        log_probs: Log-probabilities of the classes at each step, shape ``(T, C)``, with or without the
            layout behind them.
        count: Maximum number of texts.

    Returns:
        Texts and the recognizer's probabilities of them, summed over all CTC paths, sorted by descending
        probability.
    """
    steps = np.exp(np.asarray(log_probs, np.float64)[:, : CHARSET.num_classes])
    # Probability of each prefix, of paths that end with a blank and of those that do not.
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for values in steps.tolist():
        grown: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, other) in beam.items():
            same = grown.setdefault(prefix, [0.0, 0.0])
            same[0] += (blank + other) * values[_BLANK]
            if prefix:
                same[1] += other * values[prefix[-1]]
            if len(prefix) == CHARSET.max_length:
                continue
            first, after = _ALLOWED[len(prefix)]
            for new in range(first, after):
                before = blank if prefix and new == prefix[-1] else blank + other
                if before:
                    grown.setdefault((*prefix, new), [0.0, 0.0])[1] += before * values[new]
        kept = sorted(grown.items(), key=lambda item: -sum(item[1]))[:_BEAM]
        beam = {prefix: (sums[0], sums[1]) for prefix, sums in kept}
    texts = [list(prefix) for prefix in beam if len(prefix) >= 2]
    if not texts:
        return []
    # The search has lost paths of low probability, so the sums are computed again.
    outputs = np.repeat(np.log(np.maximum(steps, _LEAST))[None], len(texts), axis=0)
    chances = np.minimum(_probabilities(outputs, texts), 1.0).tolist()
    found = [(_spell(text), chance) for text, chance in zip(texts, chances, strict=True)]
    return sorted(found, key=lambda item: -item[1])[:count]
