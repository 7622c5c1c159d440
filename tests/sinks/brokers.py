"""An MQTT broker of one's own: mosquitto of Debian."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.serving import wait_until

USER, PASSWORD = "camera", "p@ss word"


def program(name: str) -> str:
    """The path of a program of mosquitto, or a test that is skipped."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
    if found is None:
        assert "CI" not in os.environ, "install mosquitto: .ci/run does"
        pytest.skip("mosquitto is not installed here")
    return found


class Mosquitto:
    """A broker on a free port.

    Args:
        folder: Folder of its files.
        certificate: Folder with certificate.pem and key.pem for TLS.
        with_password: Whether it asks for ``USER`` and ``PASSWORD``.
    """

    def __init__(
        self, folder: Path, certificate: Path | None = None, with_password: bool = False
    ) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            self.port: int = listening.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "persistence false"]
        if os.geteuid() == 0:
            # It would become another user, who may not read the folder of a test.
            lines.append("user root")
        if with_password:
            passwords = folder / "passwords"
            command = [program("mosquitto_passwd"), "-b", "-c", str(passwords), USER, PASSWORD]
            subprocess.run(command, check=True, capture_output=True)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines.append("allow_anonymous true")
        if certificate is not None:
            lines += [f"certfile {certificate}/certificate.pem", f"keyfile {certificate}/key.pem"]
        self.certificate = certificate
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n")
        self.log = folder / "mosquitto.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program("mosquitto"), "-c", str(self._configuration)], stdout=log, stderr=log
            )
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    @contextmanager
    def listening(self, topic: str = "#") -> Iterator[queue.Queue[MQTTMessage]]:
        """All messages below a topic, retained ones first."""
        messages: queue.Queue[MQTTMessage] = queue.Queue()
        client = Client(CallbackAPIVersion.VERSION2)
        if self.certificate is not None:
            client.tls_set(str(self.certificate / "certificate.pem"))
        client.username_pw_set(USER, PASSWORD)
        client.on_message = lambda _, __, message: messages.put(message)
        is_ready = []
        client.on_subscribe = lambda *_: is_ready.append(True)
        client.on_connect = lambda *_: client.subscribe(topic, qos=1)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            wait_until(lambda: bool(is_ready))
            yield messages
        finally:
            client.disconnect()
            client.loop_stop()


@contextmanager
def mosquitto(
    folder: Path, certificate: Path | None = None, with_password: bool = False
) -> Iterator[Mosquitto]:
    """A broker, or a test that is skipped."""
    broker = Mosquitto(folder, certificate, with_password)
    try:
        yield broker
    finally:
        broker.kill()


def take(messages: queue.Queue[MQTTMessage], count: int) -> list[MQTTMessage]:
    """The next messages."""
    return [messages.get(timeout=20) for _ in range(count)]
