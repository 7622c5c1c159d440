"""Which text the readings of one vehicle support: the sum of their calibrated probabilities.

Each reading gives its probability to the texts that it holds possible. Sums are compared, never products:
successive frames show the same blur and the same shadow, so their errors are not independent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..core.images import Pixels
from ..core.layout import Format
from ..inference.colour import Colour
from ..inference.layout import Reason
from ..inference.reader import Plate

ALTERNATIVES = 5
"""Number of texts that each reading supports."""
_MOST_TEXTS = 64
"""Number of texts that a vote keeps: a vehicle that stands for hours must not fill the memory."""
_MOST_FRAMES = 3
"""Number of texts, the best supported ones, whose surest frame is kept: frames are megabytes."""

Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Sighting:
    """A plate in a frame.

    Attributes:
        time: Second of the frame.
        plate: The plate as it was read, in pixels of the whole frame.
        frame: The frame ``(H, W, 3)`` BGR; None where nobody wants it.
    """

    time: float
    plate: Plate
    frame: Pixels | None = None


@dataclass
class Vote:
    """Sums over the readings of one vehicle.

    Attributes:
        sums: Sum of the probabilities of each text.
        surest: Sighting with the highest probability of each text.
        sightings: Number of readings, with a text or without.
        reads: Number of readings with a text.
    """

    sums: dict[str, float] = field(default_factory=dict)
    surest: dict[str, Sighting] = field(default_factory=dict)
    sightings: int = 0
    reads: int = 0
    _formats: Counter[Format] = field(default_factory=Counter)
    _colours: dict[Colour, float] = field(default_factory=dict)
    _reasons: Counter[Reason] = field(default_factory=Counter)

    def add(self, sighting: Sighting) -> None:
        """Count a reading."""
        plate = sighting.plate
        self.sightings += 1
        self.reads += plate.plate is not None
        for text, chance in plate.alternatives or ((plate.text, plate.confidence),):
            self.sums[text] = self.sums.get(text, 0.0) + chance
        best = self.surest.get(plate.text)
        if best is None or plate.confidence > best.plate.confidence:
            self.surest[plate.text] = sighting
            self._keep_frames(_MOST_FRAMES)
        if plate.format is not None:
            self._formats[plate.format] += 1
        if plate.colour is not None and plate.colour_confidence is not None:
            self._colours[plate.colour] = (
                self._colours.get(plate.colour, 0.0) + plate.colour_confidence
            )
        if plate.reason is not None:
            self._reasons[plate.reason] += 1
        if len(self.sums) > 2 * _MOST_TEXTS:
            self._forget()

    def merge(self, other: Vote) -> None:
        """Count the readings of another vote too."""
        for text, total in other.sums.items():
            self.sums[text] = self.sums.get(text, 0.0) + total
        for text, sighting in other.surest.items():
            best = self.surest.get(text)
            if best is None or sighting.plate.confidence > best.plate.confidence:
                self.surest[text] = sighting
        self.sightings += other.sightings
        self.reads += other.reads
        self._formats.update(other._formats)
        for colour, total in other._colours.items():
            self._colours[colour] = self._colours.get(colour, 0.0) + total
        self._reasons.update(other._reasons)
        self._forget()

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """Texts with their sums, the highest first."""
        return sorted(self.sums.items(), key=lambda item: -item[1])

    @property
    def text(self) -> str:
        """Text with the highest sum; "" without any reading."""
        return max(self.sums, key=self.sums.__getitem__, default="")

    @property
    def share(self) -> float:
        """Mean probability that readings give to the text with the highest sum, 0 to 1."""
        return self.sums[self.text] / self.sightings if self.sightings else 0.0

    @property
    def best(self) -> Sighting:
        """The sighting that shows the text with the highest sum best.

        Raises:
            ValueError: There is no reading.
        """
        if not self.surest:
            raise ValueError("a vote without readings has no best one")
        known = self.surest.get(self.text)
        return known or max(self.surest.values(), key=lambda each: each.plate.confidence)

    @property
    def format(self) -> Format | None:
        """Format that most readings tell, where more than half of them agree."""
        return _most(self._formats)

    @property
    def colour(self) -> Colour | None:
        """Colour with the highest sum, where it has more than half of all."""
        return _most(self._colours)

    @property
    def reason(self) -> Reason:
        """Most frequent reason of readings without a text."""
        return max(self._reasons, key=self._reasons.__getitem__, default="unreadable")

    def drop_frames(self) -> None:
        """Forget all frames, but not what was read in them."""
        self._keep_frames(0)

    def _keep_frames(self, count: int) -> None:
        if sum(each.frame is not None for each in self.surest.values()) <= count:
            return
        kept = {text for text, _ in self.ranked[:count]}
        for text, each in self.surest.items():
            if text not in kept and each.frame is not None:
                self.surest[text] = replace(each, frame=None)

    def _forget(self) -> None:
        """Drop the texts that are least supported."""
        kept = dict(self.ranked[:_MOST_TEXTS])
        surest = {text: each for text, each in self.surest.items() if text in kept}
        self.sums, self.surest = kept, surest or self.surest


def _most(counts: Counter[Key] | dict[Key, float]) -> Key | None:
    total = sum(counts.values())
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and 2 * counts[best] > total else None
