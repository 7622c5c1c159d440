"""What a sink is, and what it is given."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from ..video.events import Event


@dataclass(frozen=True)
class Parcel:
    """A revision of an event on its way to the sinks.

    Attributes:
        id: Id of the event.
        revision: Revision of the event.
        source: Name of the source.
        event: The event as a JSON object without its image.
        image: The best frame as JPEG, if it is to be sent.
    """

    id: str
    revision: int
    source: str
    event: bytes
    image: bytes | None = None

    @property
    def key(self) -> str:
        """What is equal if, and only if, the same revision is sent again."""
        return f"{self.id}-{self.revision}"

    def plain(self) -> dict[str, Any]:
        """Return the event as plain values, without its image."""
        return msgspec.json.decode(self.event, type=dict[str, Any])

    def with_image(self) -> bytes:
        """Return the event as a JSON object, with the image as Base64 in ``best`` if there is one."""
        if self.image is None:
            return self.event
        event = self.plain()
        event["best"]["image"] = base64.b64encode(self.image).decode("ascii")
        return msgspec.json.encode(event)


def parcel_of(event: Event, with_image: bool) -> Parcel:
    """Return what is sent of an event.

    Args:
        event: The event.
        with_image: Whether its best frame is sent too.
    """
    image = event.best.image
    bare = msgspec.structs.replace(event, best=msgspec.structs.replace(event.best, image=UNSET))
    return Parcel(
        id=event.id,
        revision=event.revision,
        source=event.source,
        event=msgspec.json.encode(bare),
        image=image if with_image and isinstance(image, bytes) else None,
    )


class Sink(Protocol):
    """A place that events are sent to. One thread uses it."""

    name: str
    """Name for messages, which contains no secret."""
    key: str
    """What stays the same from start to start, so that events that wait find their sink again."""

    def deliver(self, parcel: Parcel) -> None:
        """Hand over an event; it is safe on the other side when this method returns.

        Raises:
            DeliveryError: It was not taken.
        """
        ...

    def upkeep(self) -> None:
        """Do what is due from time to time, whether or not there are events.

        Raises:
            DeliveryError: The other side cannot be reached.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...
