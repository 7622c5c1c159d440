"""Events at a real broker: topics, state, TLS, passwords, outages, and what Home Assistant finds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from src.sinks.delivery import BackOff, Dispatcher
from src.sinks.discovery import SourceTopics, discovery
from src.sinks.errors import DeliveryError, SinkError
from src.sinks.mqtt import Broker, Mqtt
from src.sinks.outbox import Outbox
from tests.serving import wait_until
from tests.sinks.brokers import PASSWORD, USER, Mosquitto, mosquitto, take
from tests.sinks.certificates import make_certificate
from tests.sinks.samples import JPEG, event, parcel

ROOT = Path(__file__).parents[2]

slow = pytest.mark.slow
"""They need mosquitto of Debian."""


def sink(port: int, **options: Any) -> Mqtt:
    own = {
        key: options.pop(key)
        for key in ("user", "password", "ca_file", "is_secure")
        if key in options
    }
    return Mqtt(
        Broker("127.0.0.1", port, **own), "plates", "broker", "key", **{"timeout": 5.0, **options}
    )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


@slow
def test_an_event_is_a_message_of_its_source_and_is_not_kept(broker: Mosquitto) -> None:
    sending = sink(broker.port)
    with broker.listening() as messages:
        sending.deliver(parcel(1))
        sending.deliver(parcel(2, source="yard/2 #1", plate=None))
        state, first, second = take(messages, 3)
        sending.close()
        (gone,) = take(messages, 1)
    assert (state.topic, state.payload) == ("plates/state", b"online")
    assert (first.topic, first.qos) == ("plates/gate/event", 1)
    assert json.loads(first.payload) == json.loads(parcel(1).event)
    assert second.topic == "plates/yard_2__1/event"
    assert json.loads(second.payload)["source"] == "yard/2 #1"
    assert (gone.topic, gone.payload) == ("plates/state", b"offline")
    with broker.listening() as messages:
        (kept,) = take(messages, 1)
        assert (kept.topic, kept.payload, kept.retain) == ("plates/state", b"offline", True)
        assert messages.empty()


@slow
def test_images_have_a_topic_if_they_are_sent(broker: Mosquitto) -> None:
    with broker.listening() as messages:
        for with_images, topics in (
            (True, ["plates/state", "plates/gate/image", "plates/gate/event"]),
            (False, ["plates/state", "plates/gate/event"]),
        ):
            sending = sink(broker.port, with_images=with_images)
            sending.deliver(parcel(1, JPEG))
            found = take(messages, len(topics))
            assert [each.topic for each in found] == topics
            assert (found[1].payload == JPEG) == with_images
            sending.close()
            take(messages, 1)


@slow
def test_the_broker_says_offline_when_the_program_is_killed(broker: Mosquitto) -> None:
    code = (
        "import sys, time; from src.sinks.mqtt import Broker, Mqtt\n"
        "sink = Mqtt(Broker('127.0.0.1', int(sys.argv[1])), 'plates', 'broker', 'key')\n"
        "sink.upkeep(); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(broker.port)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with broker.listening() as messages:
        process.stdout.readline()
        (up,) = take(messages, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (down,) = take(messages, 1)
    assert [up.payload, down.payload] == [b"online", b"offline"]


@slow
def test_a_broker_that_is_killed_and_comes_back_gets_every_event_in_order(
    broker: Mosquitto, tmp_path: Path
) -> None:
    said: list[str] = []
    dispatcher = Dispatcher(
        Outbox(tmp_path / "outbox.db"),
        [sink(broker.port, timeout=1.0)],
        said.append,
        back_off=BackOff(first=0.05, longest=0.2),
    )
    with broker.listening("plates/gate/event") as messages:
        for number in range(1, 6):
            dispatcher.take(event(number=number))
        before = [json.loads(each.payload)["id"] for each in take(messages, 5)]
        broker.kill()
        for number in range(6, 11):
            dispatcher.take(event(number=number))
        wait_until(lambda: bool(said), 60)
        assert dispatcher._outbox.waiting()
    broker.start()
    # The broker keeps no session, so listen again; the first ones may have come by then.
    with broker.listening("plates/gate/event") as messages:
        for number in range(11, 16):
            dispatcher.take(event(number=number))
        wait_until(lambda: not dispatcher._outbox.waiting(), 60)
        later = []
        while not later or int(later[-1], 16) < 15:
            later += [json.loads(each.payload)["id"] for each in take(messages, 1)]
    dispatcher.close()
    assert [int(each, 16) for each in before] == [1, 2, 3, 4, 5]
    numbers = [int(each, 16) for each in later]
    assert numbers == sorted(numbers)
    assert set(numbers) >= {11, 12, 13, 14, 15}
    assert said[-1] == "broker: reached again"
    with broker.listening("plates/state") as messages:
        assert take(messages, 1)[0].payload == b"offline"


@slow
def test_a_connection_that_was_lost_does_not_say_offline_after_the_next_one_says_online(
    broker: Mosquitto,
) -> None:
    sending = sink(broker.port)
    with broker.listening("plates/state") as messages:
        sending.upkeep()
        lost = sending._client
        assert lost is not None
        # As after a change of the network: nobody told the broker.
        sending._client = None
        sending.upkeep()
        states = [each.payload for each in take(messages, 3)]
        assert states == [b"online", b"offline", b"online"]
        sending.close()
        lost.loop_stop()


@slow
def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with mosquitto(tmp_path, certificate=tmp_path) as broker:
        with pytest.raises(DeliveryError, match=r"(?i)certificate"):
            sink(broker.port, is_secure=True).deliver(parcel())
        sending = sink(broker.port, is_secure=True, ca_file=tmp_path / "certificate.pem")
        with broker.listening("plates/gate/event") as messages:
            sending.deliver(parcel())
            assert json.loads(take(messages, 1)[0].payload)["plate"] == "ZH123456"
        sending.close()
        with pytest.raises(DeliveryError, match="cannot be reached"):
            sink(broker.port, timeout=2.0).deliver(parcel())


@slow
def test_a_broker_that_asks_for_a_password(tmp_path: Path) -> None:
    with mosquitto(tmp_path, with_password=True) as broker:
        for user, password in ((None, None), (USER, "wrong")):
            with pytest.raises(
                DeliveryError, match=r"refuses the connection: .*[Nn]ot authori[sz]ed"
            ) as error:
                sink(broker.port, user=user, password=password).deliver(parcel())
            assert not error.value.is_final
        sending = sink(broker.port, user=USER, password=PASSWORD)
        sending.deliver(parcel())
        sending.close()


def test_a_server_that_is_no_broker_or_is_away_is_told() -> None:
    from tests.sinks.hooks import hook

    with hook() as server, pytest.raises(DeliveryError, match="cannot be reached"):
        sink(server.port, timeout=1.0).deliver(parcel())
    with pytest.raises(DeliveryError, match="cannot be reached"):
        sink(server.port, timeout=1.0).upkeep()


def test_certificates_that_are_none_are_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be used as certificates"):
        sink(1883, is_secure=True, ca_file=tmp_path / "none.pem")


# Home Assistant


@slow
def test_discovery_is_retained(broker: Mosquitto) -> None:
    sending = sink(broker.port, sources=["gate", "yard"], with_images=True, prefix="homeassistant")
    sending.upkeep()
    with broker.listening("homeassistant/#") as messages:
        found = take(messages, 4)
    assert all(each.retain for each in found)
    assert sorted(each.topic.split("/")[1] for each in found) == [
        "event",
        "event",
        "image",
        "image",
    ]
    sending.close()


def test_home_assistant_gets_an_event_of_its_kind() -> None:
    """Entities as https://www.home-assistant.io/integrations/event.mqtt/ documents them."""
    topics = SourceTopics(
        "Gate Süd", "plates/Gate_Süd/event", "plates/Gate_Süd/image", "plates/state"
    )
    (event_topic, event_message), (image_topic, image_message) = discovery("homeassistant", topics)
    for topic in (event_topic, image_topic):
        prefix, component, object_id, last = topic.split("/")
        assert (prefix, last) == ("homeassistant", "config")
        assert component in ("event", "image")
        assert object_id.replace("_", "").isalnum()
        assert object_id.isascii()
    entity, image = json.loads(event_message), json.loads(image_message)
    assert entity["unique_id"] != image["unique_id"]
    assert entity["device"] == image["device"]
    assert entity["device"]["name"] == "Gate Süd"
    assert entity["availability_topic"] == "plates/state"
    assert entity["state_topic"] == topics.event
    assert (image["image_topic"], image["content_type"]) == (topics.image, "image/jpeg")
    environment = jinja2.Environment(autoescape=False)  # noqa: S701  # it is no page
    environment.filters["to_json"] = json.dumps
    template = environment.from_string(entity["value_template"])
    for revision, kind in ((1, "seen"), (2, "revised")):
        sent = json.loads(parcel(1, revision=revision).event)
        made = json.loads(template.render(value_json=sent))
        assert made["event_type"] == kind
        assert kind in entity["event_types"]
        assert {key: made[key] for key in sent} == sent
    bare = SourceTopics("gate", "plates/gate/event", None, "plates/state")
    assert len(list(discovery("homeassistant", bare))) == 1
