"""The charset: classes, grammar, encoding and decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.charset import CANTONS, CHARSET, DIGITS

PLATES = st.builds(
    lambda canton, number: f"{canton}{number}",
    st.sampled_from(CANTONS),
    st.integers(min_value=1, max_value=9_999_999),
)


def test_classes_are_those_of_the_seed() -> None:
    assert len(CANTONS) == 26
    assert list(CANTONS) == sorted(CANTONS)
    assert CHARSET.tokens == (*CANTONS, *DIGITS)
    assert (CHARSET.blank, CHARSET.num_classes, CHARSET.max_length) == (36, 37, 8)


def test_an_example() -> None:
    assert CHARSET.encode("ZH123456") == [25, 27, 28, 29, 30, 31, 32]
    assert CHARSET.encode("AG7") == [0, 33]


@given(PLATES)
def test_decode_is_the_inverse_of_encode(plate: str) -> None:
    classes = CHARSET.encode(plate)
    assert CHARSET.decode(classes) == plate
    assert len(classes) <= CHARSET.max_length
    assert CHARSET.is_valid(plate)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ZH",
        "ZH0",
        "ZH012",
        "ZH12345678",
        "zh12",
        "XX123",
        "123",
        "ZH 12",
        "ZH12U",
        "ZH12\n",
        "ZH١",
    ],
)
def test_what_is_no_plate_is_refused(text: str) -> None:
    assert not CHARSET.is_valid(text)
    with pytest.raises(ValueError, match="is not a valid plate"):
        CHARSET.encode(text)


@pytest.mark.parametrize("classes", [[-1], [37], [0, 99]])
def test_decode_refuses_what_is_no_class(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"classes must be in 0\.\.36"):
        CHARSET.decode(classes)


def test_decode_leaves_blanks_out() -> None:
    assert CHARSET.decode([25, 36, 27, 36, 36]) == "ZH1"
