"""Assignment of real photos to splits by their content, regardless of where they come from."""

from __future__ import annotations

SPLITS = {"train": 0.7, "val": 0.15, "locked": 0.15}
"""Fraction of the images in each split; ``locked`` is held out for the gate and never trained on."""


def split_of(sha256: str) -> str:
    """Return the split of an image.

    Args:
        sha256: SHA-256 of the image file, in hexadecimal.
    """
    place = int(sha256[:13], 16) / 16**13
    for name, share in SPLITS.items():
        place -= share
        if place < 0:
            return name
    return next(reversed(SPLITS))
