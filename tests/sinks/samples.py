"""Events as a source gives them, and sinks that do what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.sinks.base import Parcel, parcel_of
from src.sinks.errors import DeliveryError
from src.video.events import Alternative, Best, Event

JPEG = b"\xff\xd8an image\xff\xd9"


def event(
    plate: str | None = "ZH123456",
    number: int = 1,
    revision: int = 1,
    image: bytes | None = None,
    alternatives: Sequence[tuple[str, float]] = (),
    **changes: Any,
) -> Event:
    """An event of a source called gate, whose id is made of a number."""
    texts = alternatives or ((plate or "ZH123456", 0.9),)
    best = Best(time=1.5, box=(1, 2, 31, 12), corners=((1, 2), (31, 2), (31, 12), (1, 12)))
    if image is not None:
        best = Best(time=1.5, box=best.box, corners=best.corners, image=image)
    values: dict[str, Any] = {
        "id": f"{number:032x}",
        "revision": revision,
        "source": "gate",
        "plate": plate,
        "canton": plate and plate[:2],
        "number": plate and plate[2:],
        "colour": "white",
        "format": "front",
        "reason": None if plate else "unreadable",
        "confidence": texts[0][1],
        "first": 1.0,
        "last": 2.0,
        "frames": 8,
        "reads": 8,
        "direction": "approaching",
        "alternatives": tuple(Alternative(plate=text, confidence=p) for text, p in texts),
        "best": best,
    }
    return Event(**{**values, **changes})


def parcel(number: int = 1, image: bytes | None = None, **changes: Any) -> Parcel:
    return parcel_of(event(number=number, image=image, **changes), image is not None)


class Failing:
    """A sink that raises what it is told to, and remembers what it has taken.

    Args:
        failures: Raised one after the other; None is a success, and so is what comes after them.
        name: Name and key.
    """

    def __init__(self, *failures: Exception | None, name: str = "sink") -> None:
        self.name = self.key = name
        self.failures = list(failures)
        self.taken: list[Parcel] = []
        self.upkeeps = 0
        self.tries = 0
        self.is_closed = False

    def deliver(self, parcel: Parcel) -> None:
        self.tries += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.taken.append(parcel)

    def upkeep(self) -> None:
        self.upkeeps += 1

    def close(self) -> None:
        self.is_closed = True


def away(wait: float = 0.0) -> DeliveryError:
    return DeliveryError("is away", wait=wait)


def refusal() -> DeliveryError:
    return DeliveryError("says no", is_final=True)
