"""An MQTT broker: a topic for the events of each source, one for its images, and one for the state.

    BASE/SOURCE/event    each event as a JSON object
    BASE/SOURCE/image    its best frame as JPEG, just before the event, if it is asked for
    BASE/state           online or offline, retained; the broker says offline if this program is gone

Events and images are sent with QoS 1 and not retained: the broker keeps no personal data.
"""

from __future__ import annotations

import queue
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from .base import Parcel
from .discovery import OFFLINE, ONLINE, SourceTopics, discovery
from .errors import DeliveryError, SinkError

TIMEOUT = 10.0
"""Seconds to wait for a connection, and for the broker to confirm a message."""
_KEEPALIVE = 30
_NOT_IN_LEVEL = re.compile(r"[/+#\s\0]")
"""Characters that separate the levels of a topic, stand for any, or are not wanted in one."""


@dataclass(frozen=True)
class Broker:
    """How a broker is reached.

    Attributes:
        host: Name or address.
        port: Port.
        is_secure: Whether TLS is used.
        user, password: What the broker asks for, if it does.
        ca_file: File of certificates to trust instead of the system's.
    """

    host: str
    port: int
    is_secure: bool = False
    user: str | None = None
    password: str | None = None
    ca_file: Path | None = None


class Mqtt:
    """A broker that gets events.

    Args:
        broker: How it is reached.
        base: Topic below which all is sent.
        name: Name for messages.
        key: Key that stays the same from start to start.
        sources: Names of the sources, which discovery describes.
        with_images: Whether images are sent.
        prefix: Discovery prefix of Home Assistant; None without discovery.
        timeout: Seconds to wait for the broker.

    Raises:
        SinkError: The file of certificates cannot be used.
    """

    def __init__(
        self,
        broker: Broker,
        base: str,
        name: str,
        key: str,
        sources: Sequence[str] = (),
        with_images: bool = False,
        prefix: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.name, self.key = name, key
        self._broker, self._base, self._sources = broker, base, sources
        self._with_images, self._prefix, self._timeout = with_images, prefix, timeout
        # Always the same: the broker then ends a connection that was lost, and says offline, before it
        # accepts the next one, which says online.
        self._id = f"plates-{uuid4().hex[:12]}"
        self._client: Client | None = None
        self._set_up()

    def deliver(self, parcel: Parcel) -> None:
        """Send an event, after its image.

        Raises:
            DeliveryError: The broker has not confirmed it.
        """
        client, topics = self._connected(), self._topics(parcel.source)
        try:
            if topics.image is not None and parcel.image is not None:
                self._publish(client, topics.image, parcel.image)
            self._publish(client, topics.event, parcel.event)
        except DeliveryError:
            # What the client still holds is sent anew, by a new one.
            self._drop()
            raise

    def upkeep(self) -> None:
        """Connect, so that the state topic says that this program is there.

        Raises:
            DeliveryError: The broker cannot be reached.
        """
        self._connected()

    def close(self) -> None:
        """Say that this program goes offline, and disconnect."""
        client = self._client
        if client is not None and client.is_connected():
            # Where that fails, the broker says it once the connection is gone.
            with suppress(DeliveryError):
                self._publish(client, self._state, OFFLINE.encode(), retain=True)
        self._drop()

    @property
    def _state(self) -> str:
        return f"{self._base}/state"

    def _topics(self, source: str) -> SourceTopics:
        below = f"{self._base}/{_NOT_IN_LEVEL.sub('_', source)}"
        image = f"{below}/image" if self._with_images else None
        return SourceTopics(source, f"{below}/event", image, self._state)

    def _set_up(self) -> Client:
        """Return a client that is not connected.

        Raises:
            SinkError: The file of certificates cannot be used.
        """
        broker = self._broker
        # A new client is made after a loss: this one would send again what the outbox sends again too.
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._id,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._timeout
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.is_secure:
            try:
                client.tls_set(None if broker.ca_file is None else str(broker.ca_file))
            except OSError as error:
                raise SinkError(
                    f"{broker.ca_file}: cannot be used as certificates: {error}"
                ) from error
        client.will_set(self._state, OFFLINE, qos=1, retain=True)
        return client

    def _connected(self) -> Client:
        if self._client is not None and self._client.is_connected():
            return self._client
        self._drop()
        self._client = client = self._set_up()
        answers: queue.Queue[ReasonCode] = queue.Queue()

        def answer(_: Client, __: Any, ___: Any, code: ReasonCode, ____: Any) -> None:
            answers.put(code)

        client.on_connect = answer
        try:
            client.connect(self._broker.host, self._broker.port, _KEEPALIVE)
            client.loop_start()
            code = answers.get(timeout=self._timeout)
        except queue.Empty:
            self._drop()
            raise DeliveryError("cannot be reached: it does not answer as a broker") from None
        except (OSError, ValueError) as error:
            self._drop()
            raise DeliveryError(f"cannot be reached: {error}") from error
        if code.is_failure:
            self._drop()
            raise DeliveryError(f"refuses the connection: {code}")
        try:
            if self._prefix is not None:
                for source in self._sources:
                    for topic, message in discovery(self._prefix, self._topics(source)):
                        self._publish(client, topic, message, retain=True)
            self._publish(client, self._state, ONLINE.encode(), retain=True)
        except DeliveryError:
            self._drop()
            raise
        return client

    def _publish(self, client: Client, topic: str, message: bytes, retain: bool = False) -> None:
        """Send a message and wait until the broker has confirmed it."""
        try:
            info: MQTTMessageInfo = client.publish(topic, message, qos=1, retain=retain)
            info.wait_for_publish(self._timeout)
            is_confirmed = info.is_published()
        except (ValueError, RuntimeError) as error:
            raise DeliveryError(f"does not take {topic}: {error}") from error
        if not is_confirmed:
            raise DeliveryError(f"does not confirm messages to {topic}")

    def _drop(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
