"""How Home Assistant finds the sources at an MQTT broker.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery: a retained message describes an entity.
Each source is a device with an event entity (https://www.home-assistant.io/integrations/event.mqtt/), and an
image entity (https://www.home-assistant.io/integrations/image.mqtt/) if images are sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import __version__
from ..core.program import COMMAND

ONLINE, OFFLINE = "online", "offline"
"""What the state topic says."""
_EVENT = (
    "{{ dict(value_json, event_type='seen' if value_json.revision == 1 else 'revised') | to_json }}"
)
"""Template with which Home Assistant makes an event of its own kind of ours: all fields are attributes."""


@dataclass(frozen=True)
class SourceTopics:
    """Topics of a source.

    Attributes:
        source: Name of the source.
        event: Topic of its events.
        image: Topic of its images; None if none are sent.
        state: Topic that says whether this program is online.
    """

    source: str
    event: str
    image: str | None
    state: str


def discovery(prefix: str, topics: SourceTopics) -> Iterator[tuple[str, bytes]]:
    """Yield the topics and messages that describe a source; they are to be retained.

    Args:
        prefix: Discovery prefix, which is ``homeassistant`` unless it was changed there.
        topics: Topics of the source.
    """
    # Letters and digits only; two programs at a broker have different topics.
    unique = f"swiss_plates_{hashlib.sha256(topics.event.encode()).hexdigest()[:16]}"
    common: dict[str, Any] = {
        "availability_topic": topics.state,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": {
            "identifiers": [unique],
            "name": topics.source,
            "model": "Swiss Plate Reader",
            "sw_version": __version__,
        },
        "origin": {"name": COMMAND, "sw_version": __version__},
    }
    event = {
        "name": "Vehicle",
        "unique_id": f"{unique}_event",
        "icon": "mdi:car",
        "state_topic": topics.event,
        "event_types": ["seen", "revised"],
        "value_template": _EVENT,
        **common,
    }
    yield f"{prefix}/event/{unique}/config", msgspec.json.encode(event)
    if topics.image is not None:
        image = {
            "name": "Last vehicle",
            "unique_id": f"{unique}_image",
            "image_topic": topics.image,
            "content_type": "image/jpeg",
            **common,
        }
        yield f"{prefix}/image/{unique}/config", msgspec.json.encode(image)
