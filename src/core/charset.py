"""Characters of a Swiss plate: classes, grammar, encoding and decoding (without torch).

Classes 0 to 25 are the cantons in alphabetical order of their codes, 26 to 35 the digits 0 to 9, and
36 is the CTC blank, as in the original project. A text is a canton and 1 to 7 digits without a leading
zero: ``ZH123456`` (VZV Art. 83 sets no maximum; seven digits are planned in Zurich).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

CANTONS: tuple[str, ...] = (
    "AG", "AI", "AR", "BE", "BL", "BS", "FR", "GE", "GL", "GR", "JU", "LU", "NE",
    "NW", "OW", "SG", "SH", "SO", "SZ", "TG", "TI", "UR", "VD", "VS", "ZG", "ZH",
)  # fmt: skip
DIGITS = "0123456789"
MAX_DIGITS = 7
HIDDEN = "?"
"""Stands in the targets of training for neighbouring characters of a plate that cannot be read."""


@dataclass(frozen=True)
class Charset:
    """Alphabet of plate texts, shared by the whole project.

    Attributes:
        tokens: Text of each class except the blank, indexed by class.
        blank: Class of the CTC blank, which is the last one.
        max_length: Length of the longest text in classes: one canton and seven digits.
    """

    tokens: tuple[str, ...] = CANTONS + tuple(DIGITS)
    max_length: int = 1 + MAX_DIGITS

    @property
    def blank(self) -> int:
        return len(self.tokens)

    @property
    def num_classes(self) -> int:
        return len(self.tokens) + 1

    @property
    def hidden(self) -> int:
        """Class of ``HIDDEN``, behind the others. Only training uses it: it is in no text."""
        return len(self.tokens) + 1

    def is_valid(self, text: str) -> bool:
        """Return whether ``text`` is a canton followed by 1 to 7 digits without a leading zero."""
        return _GRAMMAR.fullmatch(text) is not None

    def encode(self, text: str) -> list[int]:
        """Return the classes of a text, starting with its canton.

        Raises:
            ValueError: ``text`` is not a canton followed by 1 to 7 digits without a leading zero.
        """
        if not self.is_valid(text):
            raise ValueError(
                f"{text!r} is not a valid plate: expected one of {', '.join(CANTONS)}, followed by 1 to "
                f"{MAX_DIGITS} digits without a leading zero, such as ZH123456"
            )
        return [CANTONS.index(text[:2]), *(len(CANTONS) + int(digit) for digit in text[2:])]

    def decode(self, classes: Iterable[int]) -> str:
        """Return the text of a sequence of classes, omitting blanks but keeping repetitions.

        Raises:
            ValueError: A class is not in 0 … ``blank``.
        """
        classes = [int(index) for index in classes]
        if any(not 0 <= index <= self.blank for index in classes):
            raise ValueError(f"classes must be in 0..{self.blank}, got {classes}")
        return "".join(self.tokens[index] for index in classes if index != self.blank)


_GRAMMAR = re.compile(f"({'|'.join(CANTONS)})[1-9][0-9]{{0,{MAX_DIGITS - 1}}}")

CHARSET = Charset()
