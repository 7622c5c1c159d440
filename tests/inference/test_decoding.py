"""Decoding: against all paths by brute force, and what the grammar repairs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from src.core.charset import CHARSET
from src.inference.decoding import Reading, _probabilities, decode, greedy, most_likely

ZERO, ONE, TWO = (CHARSET.tokens.index(digit) for digit in "012")
AG, OW = CHARSET.tokens.index("AG"), CHARSET.tokens.index("OW")
BLANK = CHARSET.blank
# Few classes keep the number of paths small: 6 ** 5.
CLASSES = [AG, OW, ZERO, ONE, TWO, BLANK]


def log_probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, T, C)`` logits to log-probabilities."""
    return scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))


def along(path: list[int], steps: int | None = None, weak: float = 0.0) -> NDArray[np.float64]:
    """``(1, T, C)``: a path with high probability; ``weak`` more for all other classes."""
    path = path + [BLANK] * ((steps or len(path)) - len(path))
    scores = np.full((1, len(path), CHARSET.num_classes), weak)
    scores[0, np.arange(len(path)), path] = 8.0
    return log_probabilities(scores)


def classes(text: str) -> list[int]:
    """The classes of anything that is a row of tokens, also where it is no plate."""
    tokens = [text[:2], *text[2:]] if text[:1].isalpha() else list(text)
    return [CHARSET.tokens.index(token) for token in tokens]


def spaced(text: str) -> list[int]:
    """A path of the text with a blank after each character."""
    return [index for token in classes(text) for index in (token, BLANK)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(2, 5))
def test_decode_is_the_best_of_all_paths_that_obey_the_grammar(seed: int, steps: int) -> None:
    scores = np.full((1, steps, CHARSET.num_classes), -np.inf)
    scores[:, :, CLASSES] = np.random.default_rng(seed).normal(0, 2, (1, steps, len(CLASSES)))
    log_probs = log_probabilities(scores)

    totals: dict[str, float] = {}
    best, best_text = -np.inf, ""
    for path in itertools.product(CLASSES, repeat=steps):
        text = CHARSET.decode(c for c, _ in itertools.groupby(path))
        value = log_probs[0, np.arange(steps), list(path)].sum()
        totals[text] = totals.get(text, 0.0) + np.exp(value)
        if CHARSET.is_valid(text) and value > best:
            best, best_text = value, text

    reading = decode(log_probs)[0]
    assert reading.text == best_text
    assert reading.confidence == pytest.approx(totals[best_text], rel=1e-9)


@given(
    canton=st.sampled_from(CHARSET.tokens[:26]),
    number=st.integers(1, 9_999_999),
)
def test_a_clear_path_is_read_as_it_is(canton: str, number: int) -> None:
    text = f"{canton}{number}"
    log_probs = along(spaced(text), steps=20)
    assert greedy(log_probs) == [text]
    reading = decode(log_probs)[0]
    assert reading.text == text
    assert len(reading.char_confidences) == len(text) - 1
    assert 0.5 < reading.confidence <= 1
    peak = float(np.exp(log_probs.max()))
    assert reading.char_confidences == pytest.approx([peak] * (len(text) - 1))


@pytest.mark.parametrize(
    ("best", "second", "repaired"),
    [
        # A digit in the canton's place, as in `0W17` for `OW17`.
        ("017", {0: "OW"}, "OW17"),
        # A canton in the number.
        ("OW1OW2", {2: "7"}, "OW172"),
        # A leading zero.
        ("ZH012", {1: "8"}, "ZH812"),
        # Eight digits, of which one is hardly seen.
        ("ZH12345678", {8: ""}, "ZH1234567"),
    ],
)
def test_the_grammar_mends_what_no_plate_says(
    best: str, second: dict[int, str], repaired: str
) -> None:
    tokens = classes(best) if best != "OW1OW2" else [OW, ONE, OW, TWO]
    path = [index for token in tokens for index in (token, BLANK)]
    scores = np.zeros((1, len(path), CHARSET.num_classes))
    scores[0, np.arange(len(path)), path] = 8.0
    for position, token in second.items():
        scores[0, 2 * position, classes(token)[0] if token else BLANK] = 7.0
    log_probs = log_probabilities(scores)
    assert not CHARSET.is_valid(greedy(log_probs)[0])
    assert decode(log_probs)[0].text == repaired


def test_nothing_at_all_is_still_read_by_the_grammar_with_low_confidence() -> None:
    log_probs = along([BLANK] * 12)
    assert greedy(log_probs) == [""]
    reading = decode(log_probs)[0]
    assert CHARSET.is_valid(reading.text)
    assert reading.confidence < 1e-3


def test_a_repeated_digit_needs_a_blank_between() -> None:
    with_blank, without = along([AG, ONE, BLANK, ONE, BLANK]), along([AG, ONE, ONE, ONE, BLANK])
    assert [reading.text for reading in decode(np.concatenate([with_blank, without]))] == [
        "AG11",
        "AG1",
    ]
    # The same in the search: the leading zero makes the greedy path invalid.
    scores = np.zeros((1, 5, CHARSET.num_classes))
    scores[0, np.arange(5), [AG, ZERO, ONE, BLANK, ONE]] = 8.0
    scores[0, 1, BLANK] = 7.0
    assert decode(log_probabilities(scores))[0].text == "AG11"


def test_repairs_do_not_touch_their_neighbours_in_the_batch() -> None:
    good, bad = along(spaced("ZH123456"), 16), along(spaced("0123"), 16)
    together = decode(np.concatenate([good, bad, good]))
    assert together[0] == together[2] == decode(good)[0]
    assert together[1] == decode(bad)[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 30))
def test_whatever_a_network_says_a_plate_is_read(seed: int, scale: float) -> None:
    scores = np.random.default_rng(seed).normal(0, scale, (5, 24, CHARSET.num_classes))
    for reading in decode(log_probabilities(scores).astype(np.float32)):
        assert CHARSET.is_valid(reading.text)
        assert 0 <= reading.confidence <= 1
        assert len(reading.char_confidences) == len(CHARSET.encode(reading.text))
        assert all(0 <= value <= 1 for value in reading.char_confidences)


def test_impossible_classes_are_no_trouble() -> None:
    scores = np.full((1, 4, CHARSET.num_classes), -np.inf)
    scores[0, :, BLANK] = 0.0
    reading = decode(scores)[0]
    assert CHARSET.is_valid(reading.text)
    assert 0 <= reading.confidence < 1e-15
    assert reading.char_confidences == (0, 0)


@pytest.mark.parametrize("steps", [2, 31, 32, 200])
def test_a_crop_without_text_is_refused_by_its_confidence(steps: int) -> None:
    # A path of anything is far less likely than none: it must not be an error, nor underflow to one.
    for sure in (2.0, 10.0, 80.0):
        scores = np.zeros((3, steps, CHARSET.num_classes), dtype=np.float32)
        scores[:, :, BLANK] = sure + np.log(CHARSET.num_classes)
        scores[1, 0, AG] += 1
        for reading in decode(log_probabilities(scores)):
            assert CHARSET.is_valid(reading.text)
            assert reading.confidence < (0.05 if steps < 200 else 1)
            assert max(reading.char_confidences) < 0.5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(6, 40), scale=st.floats(0.5, 6))
def test_decode_agrees_with_the_textbook(seed: int, steps: int, scale: float) -> None:
    scores = np.random.default_rng(seed).normal(0, scale, (1, steps, CHARSET.num_classes))
    scores[:, :, BLANK] += scale
    log_probs = log_probabilities(scores)
    reading = decode(log_probs)[0]
    total = score_of(log_probs[0], reading.text, np.logaddexp.reduce)
    assert reading.confidence == pytest.approx(np.exp(total), rel=1e-6, abs=1e-12)
    best = score_of(log_probs[0], reading.text, max)
    assert best == pytest.approx(best_score(log_probs[0]), abs=1e-9)


def score_of(
    log_probs: NDArray[np.float64], text: str, combine: Callable[[list[float]], float]
) -> float:
    """CTC's forward algorithm in logarithms: of all paths of a text, or of the best with ``max``."""
    extended = [BLANK]
    for index in CHARSET.encode(text):
        extended += [index, BLANK]
    alpha = [*log_probs[0, extended[:2]], *[-np.inf] * (len(extended) - 2)]
    for row in log_probs[1:]:
        before, alpha = alpha, []
        for state, index in enumerate(extended):
            ways = before[max(state - 1, 0) : state + 1]
            if state > 2 and index not in (BLANK, extended[state - 2]):
                ways.append(before[state - 2])
            alpha.append(combine(ways) + row[index])
    return combine(alpha[-2:])


def best_score(log_probs: NDArray[np.float64]) -> float:
    """Of the best path of any plate: Viterbi over (characters so far, class of the last step)."""
    states = {(0, BLANK): 0.0}
    for row in log_probs:
        after: dict[tuple[int, int], float] = {}
        for (count, last), score in states.items():
            canton, first = range(26), range(27, BLANK)
            more = [canton, first, *[range(26, BLANK)] * (CHARSET.max_length - 2), range(0)][count]
            for index in {BLANK, last, *more}:
                place = (count + (index not in (BLANK, last)), index)
                after[place] = max(after.get(place, -np.inf), score + row[index])
        states = after
    return max(score for (count, _), score in states.items() if count >= 2)


def test_an_empty_batch_gives_nothing() -> None:
    assert decode(np.empty((0, 32, CHARSET.num_classes))) == []
    assert greedy(np.empty((0, 32, CHARSET.num_classes))) == []


@pytest.mark.parametrize("shape", [(32, 37), (1, 1, 37), (1, 32, 36)])
def test_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, T, 37\)"):
        decode(np.zeros(shape))


def test_values_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="contain NaN"):
        decode(np.full((1, 32, 37), np.nan))


def test_a_reading_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Reading("ZH1", 1.0, (1.0, 1.0)).text = "ZH2"  # type: ignore[misc]  # what the test is about


def test_a_large_batch_is_fast() -> None:
    log_probs = np.repeat(along(spaced("ZH123456"), 32), 1000, axis=0)
    log_probs[::20] = along(spaced("0123"), 32)
    start = time.perf_counter()
    assert len(decode(log_probs)) == 1000
    # About 0.04 s on one core; the rest is for busy machines.
    assert time.perf_counter() - start < 1.0


def test_the_layout_behind_the_classes_is_passed_on() -> None:
    bare = log_probabilities(along(spaced("ZH12"), 32))
    layout = np.array([2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    both = np.concatenate([bare, np.broadcast_to(layout, (1, bare.shape[1], 7))], axis=2)
    (reading,), (without,) = decode(both), decode(bare)
    assert (reading.text, reading.confidence) == (without.text, without.confidence)
    assert reading.layout == tuple(layout)
    assert reading.complete == pytest.approx(1 / (1 + np.exp(-2)))
    assert without.layout == ()
    assert without.complete == 1
    assert greedy(both) == greedy(bare) == ["ZH12"]


def test_alternatives_are_the_most_likely_texts() -> None:
    """Compared with the sum over all paths, of all texts of two to three characters."""
    generator = np.random.default_rng(5)
    steps = 6
    for _ in range(5):
        log_probs = log_probabilities(generator.normal(0, 3, (1, steps, CHARSET.num_classes)))
        found = most_likely(log_probs[0], 8)
        texts = [text for text, _ in found]
        assert len(set(texts)) == 8
        assert all(CHARSET.is_valid(text) for text in texts)
        exact = _probabilities(
            np.repeat(log_probs, 8, axis=0), [CHARSET.encode(text) for text in texts]
        )
        np.testing.assert_allclose([chance for _, chance in found], exact, rtol=1e-6)
        assert [chance for _, chance in found] == sorted(
            (chance for _, chance in found), reverse=True
        )
        assert decode(log_probs)[0].confidence <= found[0][1] + 1e-12
        assert sum(chance for _, chance in found) <= 1


def test_a_digit_that_could_be_another_is_an_alternative() -> None:
    log_probs = along(spaced("ZH128"), 32)[0]
    eight, three = classes("8")[0], classes("3")[0]
    step = int(log_probs[:, eight].argmax())
    log_probs[step] = np.log(1e-6)
    log_probs[step, [eight, three]] = np.log([0.7, 0.29])
    (first, chance), (second, other), *_ = most_likely(log_probs, 5)
    assert (first, second) == ("ZH128", "ZH123")
    assert other / chance == pytest.approx(0.29 / 0.7, rel=0.01)
    assert chance == pytest.approx(decode(log_probs[None])[0].confidence, rel=0.01)
