"""Spelling of plate texts that people have typed."""

from __future__ import annotations

import re

_BETWEEN = re.compile(r"[\s.·•*'’_-]+")
"""Separators that people write between the parts of a plate."""


def without_separators(text: str) -> str:
    """Return a text in upper case without separators: ``zh 123·456`` becomes ``ZH123456``."""
    return _BETWEEN.sub("", text).upper()
