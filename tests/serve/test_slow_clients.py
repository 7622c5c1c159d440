"""Clients that send or receive slowly, or not at all: they are disconnected, and others answered."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from src.serve import app
from src.serve.server import Server
from tests.bundles import write_bundle
from tests.serving import process, serving, wait_until

resource = pytest.importorskip("resource", reason="sockets are limited by Unix")

HEADER_S, DEADLINE_S = 1.0, 2.0
LATE_S = 30.0
"""Seconds after a deadline in which it is noticed, on a machine that does much else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("slow") / "bundle")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder, header_s=HEADER_S, deadline_s=DEADLINE_S, keep_alive_s=120) as client:
        assert client.get("/livez").status_code == 200
        yield client


def connect(client: httpx.Client) -> socket.socket:
    address = (client.base_url.host, client.base_url.port)
    return socket.create_connection(address, timeout=LATE_S + 10)


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def is_ended(connection: socket.socket, drop: bytes, seconds: float) -> bool:
    """Whether the server closes a connection on which some bytes are sent now and then."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(0.1)
    except OSError:
        return True
    return False


HALF = b"POST /v1/read HTTP/1.1\r\nHost: x\r\nX-Half: "
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"G", b"408", id="a-letter"),
        pytest.param(HALF, b"408", id="half-a-header"),
        pytest.param(b"\r\n", b"408", id="empty-lines"),
    ],
)
def test_headers_have_a_deadline(client: httpx.Client, sent: bytes, status: bytes) -> None:
    started = time.monotonic()
    with connect(client) as connection:
        connection.sendall(sent)
        got = received(connection)
    assert HEADER_S * 0.9 < time.monotonic() - started < HEADER_S + LATE_S
    assert got.split(b" ")[1:2] == ([status] if status else [])
    if status:
        head, content = got.split(b"\r\n\r\n")
        assert f"content-length: {len(content)}\r\n".encode() in head
        assert b"connection: close" in head


@pytest.mark.parametrize("drop", [b"x", b"\r\n"], ids=["header", "empty-lines"])
def test_one_byte_now_and_then_is_not_enough(client: httpx.Client, drop: bytes) -> None:
    with connect(client) as connection:
        if drop == b"x":
            connection.sendall(HALF)
        assert is_ended(connection, drop, HEADER_S + LATE_S)


def test_the_next_request_of_a_connection_has_the_same_deadline(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        # It may be idle for longer than that, and go on.
        time.sleep(HEADER_S * 2.5)
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(HALF)
        assert received(connection).startswith(b"HTTP/1.1 408")


def test_a_body_that_does_not_arrive(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(b"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf")
        got = received(connection)
    assert got.startswith(b"HTTP/1.1 408")
    assert b'"slow_body"' in got


def test_a_body_that_nobody_wants(client: httpx.Client) -> None:
    """The answer is there at once; a byte now and then does not keep the connection open."""
    with connect(client) as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 405")
        assert is_ended(connection, b"x", DEADLINE_S + LATE_S)


def test_a_response_that_is_not_taken(client: httpx.Client) -> None:
    state = client.server.server_state  # type: ignore[attr-defined]
    with ExitStack() as stack:
        connection = stack.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port))
        port = connection.getsockname()[1]
        request = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(request * 8)

        def is_open() -> bool:
            return any(each.client[1] == port for each in list(state.connections))

        wait_until(is_open)
        wait_until(lambda: not is_open(), DEADLINE_S + LATE_S)


@pytest.mark.parametrize("path", ["/", "/page/large"], ids=["sent-at-once", "sent-in-parts"])
def test_a_client_that_takes_its_response_slowly_gets_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    # More than the buffers of the system hold.
    page = Path(shutil.copytree(app.PAGE, tmp_path / "page"))
    for name in ("index.html", "large"):
        (page / name).write_text("x" * 2**24)
    monkeypatch.setattr(app, "PAGE", page)
    with (
        serving(folder, deadline_s=DEADLINE_S) as client,
        ExitStack() as stack,
    ):
        connection = stack.enter_context(socket.socket())
        connection.settimeout(LATE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect((client.base_url.host, client.base_url.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = bytearray()
        started = time.monotonic()
        while part := connection.recv(2**16):
            got += part
            # 2 MiB per second.
            time.sleep(max(started + len(got) / 2**21 - time.monotonic(), 0))
        # The server had more to send for longer than the deadline and a sweep.
        assert time.monotonic() - started > 2 * DEADLINE_S + 1
        assert got.endswith(b"\r\n\r\n" + b"x" * 2**24)


def test_too_many_connections(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is answered, other requests are refused, and those that wait for longest make room."""
    with serving(folder, header_s=300, max_connections=50) as client, ExitStack() as stack:
        state = client.server.server_state  # type: ignore[attr-defined]
        other = stack.enter_context(httpx.Client(base_url=client.base_url, timeout=30))
        ports: list[int] = []

        def send_half() -> None:
            connection = stack.enter_context(connect(client))
            connection.sendall(HALF)
            ports.append(connection.getsockname()[1])

        with monkeypatch.context() as patch:
            patch.setattr(Server, "_sweep", lambda _: None)
            for _ in range(49):
                send_half()
            wait_until(lambda: len(state.connections) == 49)
            # As many as are allowed.
            assert other.get("/v1/model").status_code == 200
            for _ in range(30):
                send_half()
            wait_until(lambda: len(state.connections) == 80)
            for path in ("/livez", "/readyz", "/metrics", "/livez?x=1"):
                assert other.get(path).status_code == 200
            refused = other.get("/v1/model")
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (503, "too_many_connections")
            assert error["limit"] == "max_connections"
            assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
            text = other.get("/metrics").text
            assert 'plates_rejections_total{reason="too_many_connections"} 1.0' in text
        wait_until(lambda: len(state.connections) < 50, LATE_S)
        assert client.get("/v1/model").status_code == 200
        still = {connection.client[1] for connection in list(state.connections)}
        # All that came first may have come at the same time.
        assert len(still & set(ports[:49])) < 20
        assert still >= set(ports[-30:])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_slow_sockets(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"only {hard} files may be open here")
    # The server starts with few, as a shell gives it, and asks for more itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        options = ("--max-connections", "500", "--header-s", "5", "--deadline-s", "10")
        with process("--model", str(folder), *options) as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
            _hold(server.url)
            assert "Traceback" not in server.log
            assert httpx.post(f"{server.url}/v1/read", content=b"x").status_code == 415
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _hold(url: str) -> None:
    """Hold a thousand connections: half with half a header, half with half a body."""
    address = (httpx.URL(url).host, httpx.URL(url).port)
    body = b"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf"
    slowest = 0.0
    with ExitStack() as stack:
        sockets = []
        started = time.monotonic()
        for number in range(1000):
            each = stack.enter_context(socket.create_connection(address, timeout=30))
            each.sendall(body if number % 2 else HALF)
            sockets.append(each)
            if number % 50 == 0:
                slowest = max(slowest, _livez(url))
        # They are all ended, although none of them does anything, and some only by their deadline.
        for each in sockets:
            each.settimeout(60)
            received(each)
        seconds = time.monotonic() - started
        for _ in range(10):
            slowest = max(slowest, _livez(url))
    print(f"1,000 slow sockets were ended in {seconds:.1f} s; /livez took {slowest:.2f} s at most")
    assert slowest < 10


def _livez(url: str) -> float:
    started = time.monotonic()
    assert httpx.get(f"{url}/livez", timeout=30).status_code == 200
    return time.monotonic() - started
