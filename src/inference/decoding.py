"""CTC decoding under the plates' grammar (numpy only, no torch).

The grammar of src/core/charset.py is a chain: a canton, then one to seven digits of which the first is
no zero. So the best path that obeys it is found exactly, without a beam.

A plate is decoded while somebody waits for it, alone or with a few others: what counts here is the
number of calls of numpy more than the size of their arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..core.charset import CANTONS, CHARSET

_FIRST_DIGIT = len(CANTONS)
_BLANK = CHARSET.blank
# No probability counts as less, so that those of a whole path stay within float64 where a network
# is sure of another text: 1e-9 to the power of 32 steps is 1e-288.
_LEAST = 1e-9
# The logarithm of zero, kept finite so that a path of it still beats what the grammar forbids.
_LOWEST = -1e6
# First class, and first after the last one, of the canton, of a digit but zero, and of more digits.
_ALLOWED = [(0, _FIRST_DIGIT), (_FIRST_DIGIT + 1, _BLANK)]
_ALLOWED += [(_FIRST_DIGIT, _BLANK)] * (CHARSET.max_length - 2)


@dataclass(frozen=True)
class Reading:
    """What a reader made of one crop.

    Where there is nothing to read, the text is the likeliest that the grammar allows, and its
    confidence is next to nothing.

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
    return [_spell(text) for text in _collapse(_best_classes(log_probs))[0]]


def decode(log_probs: NDArray[np.floating]) -> list[Reading]:
    """Read each sample along its best path that obeys the grammar.

    Args:
        log_probs: ``(N, T, C)`` log-probabilities of the classes at each step, T at least 2.

    Raises:
        ValueError: the shape is another one, or a value is no number.
    """
    paths = _best_classes(log_probs)
    if not len(paths):
        return []
    texts, starts = _collapse(paths)
    # The best of all paths, where it obeys the grammar, is the best of those that do.
    if invalid := [row for row, text in enumerate(texts) if not _is_valid(text)]:
        paths[invalid] = _best_paths(log_probs[invalid])
        texts, starts = _collapse(paths)
    confidences = np.minimum(_probabilities(log_probs, texts), 1.0).tolist()
    # Of each character the best step: from its start to the next one's, blanks left out.
    along = np.exp(np.take_along_axis(log_probs, paths[..., None], axis=2)[..., 0])
    peaks = np.maximum.reduceat(np.where(paths == _BLANK, 0, along).ravel(), starts).tolist()
    ends = np.cumsum([len(text) for text in texts]).tolist()
    return [
        Reading(_spell(text), confidence, tuple(peaks[start:end]))
        for text, confidence, (start, end) in zip(
            texts, confidences, pairwise([0, *ends]), strict=True
        )
    ]


def _best_classes(log_probs: NDArray[np.floating]) -> NDArray[np.intp]:
    """``(N, T)`` the likeliest class of each step of ``(N, T, C)``, which are checked."""
    if log_probs.ndim != 3 or log_probs.shape[1] < 2 or log_probs.shape[2] != CHARSET.num_classes:
        raise ValueError(
            f"log_probs must be (N, T, {CHARSET.num_classes}) with T of at least 2, "
            f"not {log_probs.shape}"
        )
    # What is no number is the highest of all to argmax and to max.
    if np.isnan(log_probs.max(initial=_LOWEST)):
        raise ValueError("log_probs hold values that are no numbers: the reader is broken")
    return log_probs.argmax(axis=2)


def _collapse(paths: NDArray[np.intp]) -> tuple[list[list[int]], NDArray[np.intp]]:
    """Merge repeats and drop blanks.

    Args:
        paths: ``(N, T)`` classes.

    Returns:
        the classes of each text; the first step of each character, of all texts one after the
        other, counted through all ``N * T`` steps.
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
    """Whether a text obeys the grammar."""
    return (
        2 <= len(classes) <= CHARSET.max_length
        and classes[0] < _FIRST_DIGIT < classes[1]
        and min(classes[1:]) >= _FIRST_DIGIT
    )


def _best_paths(log_probs: NDArray[np.floating]) -> NDArray[np.intp]:
    """Viterbi: ``(N, T, C)`` to the ``(N, T)`` classes of the best paths that obey the grammar.

    It goes through the characters of a text instead of through the steps, of which there are more: to
    stay in a class from one step to another costs the difference of that class's running sums, so
    that the best step to enter it is found by a running maximum.

    A character may follow an equal one without a blank between, though CTC takes both for one: the
    path is then that of a text with a digit less, which obeys the grammar as well. So what a path
    may go on with depends on how many characters it has, and not on which.
    """
    count, steps, classes = log_probs.shape
    # Classes first: what is compared of them is then a run through steps and samples.
    sums = np.zeros((classes, steps + 1, count))
    np.cumsum(
        np.maximum(log_probs, _LOWEST, dtype=np.float64).transpose(2, 1, 0), axis=1, out=sums[:, 1:]
    )
    blank = sums[_BLANK]
    best = blank
    lasts, stays, bests = [], [], []
    for first, after in _ALLOWED:
        # Scores after each number of steps: of the best paths with the characters before this one;
        # of those in a class of this character; of those in a blank behind it.
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
    # A canton alone is no text.
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
    """CTC's forward algorithm (Graves et al., 2006, section 4.1).

    Args:
        log_probs: ``(N, T, C)``.
        texts: classes of each, one at least.

    Returns:
        ``(N,)`` probabilities of the texts, summed over all their paths.
    """
    # States first, samples last: each line is then one run through the samples.
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
    # Two rows before the states, from which nothing comes; the path starts as if in the first.
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
