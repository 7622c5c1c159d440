"""Webhooks at a real server that answers, fails, is slow, and is killed."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from src.sinks.delivery import BackOff, Dispatcher
from src.sinks.errors import DeliveryError, SinkError
from src.sinks.outbox import Outbox
from src.sinks.webhook import Webhook, secret_key, signature
from tests.serving import wait_until
from tests.sinks.certificates import make_certificate
from tests.sinks.hooks import DROP, hook, hook_process
from tests.sinks.samples import JPEG, event, parcel


def webhook(url: str, **options: object) -> Webhook:
    return Webhook(url, "hook", "key", **options)  # type: ignore[arg-type]


def test_an_event_is_posted_with_a_signature_over_time_and_body() -> None:
    with hook() as server:
        sink = webhook(server.url, secret=b"secret")
        before = int(time.time())
        sink.deliver(parcel(7, revision=2))
        sink.deliver(parcel(7, revision=2))
        sink.close()
    first, second = server.requests
    assert first.event["plate"] == "ZH123456"
    assert "image" not in first.event["best"]
    headers = first.headers
    assert headers["Content-Type"] == "application/json"
    key = f"{7:032x}-2"
    assert headers["webhook-id"] == headers["Idempotency-Key"] == key
    assert second.headers["Idempotency-Key"] == key
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    signed = f"{key}.{headers['webhook-timestamp']}.".encode() + first.body
    expected = base64.b64encode(hmac.digest(b"secret", signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of its specification's libraries.
    key = secret_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_are_texts_or_base64() -> None:
    assert secret_key(" a secret\n") == b"a secret"
    for wrong in ("", " \n", "whsec_?"):
        with pytest.raises(SinkError, match="the secret of webhooks"):
            secret_key(wrong)


def test_without_a_secret_there_is_no_signature() -> None:
    with hook() as server:
        webhook(server.url).deliver(parcel())
    assert "webhook-signature" not in server.requests[0].headers


def test_the_image_is_base64_in_the_object_if_it_is_sent() -> None:
    with hook() as server:
        webhook(server.url, secret=b"secret").deliver(parcel(1, JPEG))
    (request,) = server.requests
    assert base64.b64decode(request.event["best"]["image"]) == JPEG
    bare = {**request.event, "best": {**request.event["best"]}}
    del bare["best"]["image"]
    assert bare == json.loads(parcel(1).event)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_these_are_tried_again(status: int) -> None:
    with hook() as server:
        server.answers = [(status, {})]
        with pytest.raises(DeliveryError, match=f"answers {status}") as error:
            webhook(server.url).deliver(parcel())
    assert not error.value.is_final
    assert error.value.wait == 0


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 413, 422])
def test_these_are_final(status: int) -> None:
    with hook() as server:
        server.answers = [(status, {"Location": server.url} if status < 400 else {})]
        with pytest.raises(DeliveryError, match=f"answers {status}") as error:
            webhook(server.url).deliver(parcel())
    assert error.value.is_final
    # A redirect is not followed.
    assert len(server.requests) == 1


def test_a_server_may_say_how_long_to_wait() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with hook() as server:
        for value, low, high in (("7", 7, 7), (date, 80, 90), ("soon", 0, 0), ("-3", 0, 0)):
            server.answers = [(429, {"Retry-After": value})]
            with pytest.raises(DeliveryError) as error:
                webhook(server.url).deliver(parcel())
            assert low <= error.value.wait <= high


def test_a_server_that_is_slow_away_or_drops_the_connection_is_tried_again() -> None:
    with hook() as server:
        sink = webhook(server.url, timeout=0.3)
        server.answers = [(DROP, {})]
        with pytest.raises(DeliveryError, match="cannot be reached") as error:
            sink.deliver(parcel())
        assert not error.value.is_final
        server.delay = 2.0
        with pytest.raises(DeliveryError, match="cannot be reached") as error:
            sink.deliver(parcel())
        assert not error.value.is_final
        server.delay = 0.0
        sink.deliver(parcel())
    with pytest.raises(DeliveryError, match="cannot be reached") as error:
        webhook(server.url).deliver(parcel())
    assert not error.value.is_final


def test_an_answer_without_an_end_is_not_waited_for() -> None:
    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            # Until the client has had enough.
            with suppress(OSError):
                while True:
                    connection.sendall(b"1\r\nx\r\n")
                    time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        begin = time.monotonic()
        webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=0.5).deliver(parcel())
        assert time.monotonic() - begin < 10
        thread.join(10)
        assert not thread.is_alive()


def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with hook(certificate=certificate) as server:
        with pytest.raises(DeliveryError, match=r"(?i)certificate"):
            webhook(server.url).deliver(parcel())
        webhook(server.url, ca_file=tmp_path / "certificate.pem").deliver(parcel())
    assert server.plates == ["ZH123456"]
    for wrong in (tmp_path / "none.pem", tmp_path / "key.pem"):
        with pytest.raises(SinkError, match="cannot be used as certificates"):
            webhook(server.url, ca_file=wrong)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def test_a_server_that_is_killed_and_comes_back_gets_every_event_in_order(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "bodies"
    path.touch()
    said: list[str] = []
    dispatcher = Dispatcher(
        Outbox(tmp_path / "outbox.db"),
        [webhook(f"http://127.0.0.1:{port}/", timeout=5.0)],
        said.append,
        back_off=BackOff(first=0.05, longest=0.2),
    )
    count = 0
    for _ in range(3):
        process = hook_process(port, path)
        begin = path.read_bytes().count(b"\n")
        try:
            for _ in range(10):
                count += 1
                dispatcher.take(event(number=count))
            wait_until(lambda begin=begin: path.read_bytes().count(b"\n") >= begin + 4, 60)
        finally:
            process.kill()
            process.wait()
    process = hook_process(port, path)
    try:
        wait_until(lambda: not dispatcher._outbox.waiting(), 60)
    finally:
        process.kill()
        process.wait()
    dispatcher.close()
    ids = [int(json.loads(line)["id"], 16) for line in path.read_bytes().splitlines()]
    # At least once: what was read and not answered comes again, right after itself.
    once = [each for place, each in enumerate(ids) if place == 0 or each != ids[place - 1]]
    assert once == list(range(1, count + 1))
    assert any("cannot be reached" in each for each in said)
    assert "hook: reached again" in said
