"""Which split of a set of real pictures a picture belongs to: by its content, wherever it comes from."""

from __future__ import annotations

SPLITS = {"train": 0.7, "val": 0.15, "locked": 0.15}
"""Shares of the pictures; the locked slice is for the gate, and nothing learns from it."""


def split_of(sha256: str) -> str:
    """The split of a picture.

    Args:
        sha256: of its file.
    """
    place = int(sha256[:13], 16) / 16**13
    for name, share in SPLITS.items():
        place -= share
        if place < 0:
            return name
    return next(reversed(SPLITS))
