"""What a recognizer tells of a plate beside its text: whether it is whole, whether Swiss, which format."""

from __future__ import annotations

from typing import Literal

Format = Literal["front", "rear_long", "rear_high", "motorcycle", "moped"]
FORMATS: tuple[Format, ...] = ("front", "rear_long", "rear_high", "motorcycle", "moped")
"""Formats of plates (VZV Art. 83), as they are named in results."""
LAYOUT = ("complete", "swiss", *FORMATS)
"""Outputs of a recognizer beside the classes of the characters: the logits that every character of the
plate can be read and that the plate is Swiss, and those of the formats."""
FORMAT_OF: dict[str, Format] = {
    "front": "front",
    "front_long": "front",
    "rear_long": "rear_long",
    "rear_high": "rear_high",
    "motorcycle": "motorcycle",
    "moped": "moped",
}
"""Format in results by the name that the generator gives it; ``front_long`` is drawn by the original
project alone, and counts as a front plate."""

ILLEGIBLE = 0.5
"""Fraction of a character's ink from which on, if it is covered, the character is illegible."""
LEGIBLE = 0.15
"""Fraction of a character's ink up to which, if it is covered, the character is legible. What lies between
both can be read by some and not by others: it is neither taught nor scored."""
