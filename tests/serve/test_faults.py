"""Requests that nobody means well with: no error of the server, no end of it, no growth."""

from __future__ import annotations

import io
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator

import cv2
import httpx
import psutil
import pytest
from PIL import Image

from tests.bundles import scene, write_bundle
from tests.serving import Process, process

MOST_GROWTH = 96 * 2**20
"""Bytes that the server may grow by: caches fill, and allocators keep what they had."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = write_bundle(tmp_path_factory.mktemp("faults") / "bundle")
    with process("--model", str(folder), "--max-body-mib", "2", "--max-pixels", "4000000") as found:
        yield found


def images() -> list[bytes]:
    pixels = scene("BE1", (20, 30, 80, 46), size=(72, 96))
    plain = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".jpg", ".png", ".webp")]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 200
    turned = io.BytesIO()
    Image.fromarray(pixels).save(turned, "JPEG", exif=exif, progressive=True)
    return [*plain, turned.getvalue()]


PICTURES = images()


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def bombs() -> list[bytes]:
    zeros = zlib.compress(bytes(60_000_000), 9)
    jpeg = bytearray(PICTURES[0])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    text = chunk(b"zTXt", b"k\0\0" + zeros[:200_000])
    return [
        png(50_000, 50_000, zeros),
        png(2**31 - 1, 2**31 - 1, zeros[:100]),
        png(0, 0, zeros[:100]),
        png(2000, 1900, zeros),
        png(64, 64, zlib.compress(bytes(65 * 64)), extra=text * 8),
        png(
            64,
            64,
            zlib.compress(bytes(65 * 64)),
            extra=chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        ),
        bytes(jpeg),
        b"\xff\xd8\xff" + b"\xff\xe1\xff\xff" * 20_000,
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8X" + bytes(40),
        b"GIF89a" + bytes(100),
        b"II*\0" + struct.pack("<I", 8) + b"\xff\xff" + bytes(5000),
    ]


BOMBS = bombs()
KINDS = (
    "", "image/jpeg", "image/png", "text/plain", "application/json", "multipart/form-data",
    "multipart/form-data; boundary=", 'multipart/form-data; boundary="', "multipart/mixed; boundary=x",
    "multipart/form-data; boundary=x; charset=utf-99", "image/" + "x" * 500,
    "multipart/form-data; boundary=" + "y" * 300,
)  # fmt: skip


def form(dice: random.Random, content: bytes) -> bytes:
    """A form with boundary x, mostly in order."""
    name = dice.choice(["file", "files", "other", "fi\0le", "f" * 3000, '"', "ﬁle", ""])
    shown = dice.choice(["a.jpg", "../../etc/passwd", "a" * 5000, "\r\nX: y", "\0", "🚗.jpg", ""])
    parts = b""
    for _ in range(dice.choice([0, 1, 1, 2, 40])):
        head = f'Content-Disposition: form-data; name="{name}"; filename="{shown}"\r\n'
        if dice.random() < 0.1:
            head = dice.choice(["", "X" * 9000 + ": y\r\n", "Content-Disposition: attachment\r\n"])
        parts += b"--x\r\n" + head.encode() + b"\r\n" + content[:5000] + b"\r\n"
    body = parts + b"--x--\r\n"
    if dice.random() < 0.3:
        at = dice.randrange(len(body))
        body = dice.choice([body[:at], body[at:], body[:at] + b"--x" + body[at:]])
    return body


def faulty(number: int) -> tuple[str, str, dict[str, str], bytes]:  # noqa: PLR0911  # a list of cases
    """Method, path, headers and body of a request, the same for the same number."""
    dice = random.Random(number)  # noqa: S311  # the same each time
    image = dice.choice(PICTURES)
    kind = number % 8
    path = dice.choice(["/predict", "/v1/read"])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    if kind == 0:  # Cut off, at every offset in turn.
        image = PICTURES[number // 8 % len(PICTURES)]
        body = image[: number // 8 // len(PICTURES) * 7 % len(image)]
        return "POST", "/v1/read", {"Content-Type": "image/jpeg"}, body
    if kind in (1, 2):  # Some bits are others.
        damaged = bytearray(image)
        for _ in range(dice.choice([1, 1, 2, 8, 64])):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        if kind == 1:
            return "POST", "/v1/read", {"Content-Type": "image/png"}, bytes(damaged)
        return "POST", path, headers, form(dice, bytes(damaged))
    if kind == 3:
        bomb = dice.choice(BOMBS) if dice.random() < 0.2 else dice.randbytes(dice.randrange(3000))
        return "POST", "/v1/read", {"Content-Type": dice.choice(KINDS[:3])}, bomb
    if kind == 4:
        return "POST", path, {"Content-Type": dice.choice(KINDS)}, image
    if kind == 5:
        method = dice.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "POST"])
        place = dice.choice(
            [
                "/",
                "/predict",
                "/v1/model",
                "/page/app.js",
                "/page/../x",
                "/%00",
                "/v1/read?x=" + "y" * 3000,
            ]
        )
        return method, place, {}, image if method == "POST" else b""
    if kind == 6:
        name = dice.choice(
            ["X-Request-ID", "X-API-Key", "Expect", "Range", "Accept-Encoding", "Cookie"]
        )
        return "POST", path, {**headers, name: "v" * dice.randrange(20_000)}, form(dice, image)
    return "POST", path, headers, form(dice, dice.choice([image, b"", dice.randbytes(100)]))


def ask(server: Process, numbers: range) -> Counter[int]:
    counts: Counter[int] = Counter()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for number in numbers:
            method, path, headers, body = faulty(number)
            try:
                status = client.request(method, path, headers=headers, content=body).status_code
            except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
                # The connection was closed on it: so it may be, if the server goes on.
                status = 0
            counts[status] += 1
            assert status < 500 or status == 503, (number, status, method, path, headers)
    return counts


def memory(server: Process) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


def check(server: Process, count: int) -> None:
    ask(server, range(8 * len(BOMBS) * 4))
    before = memory(server)
    counts = ask(server, range(count))
    assert server.process.poll() is None
    assert memory(server) - before < MOST_GROWTH
    # It was not all refused at the door.
    assert set(counts) >= {200, 400, 405, 413, 415}, counts
    with httpx.Client(base_url=server.url) as client:
        answer = client.post("/predict", files={"file": PICTURES[1]}).json()
        assert answer["plate"] == "BE1"
    assert "Traceback" not in server.log


@pytest.mark.timeout(300)
def test_a_thousand_faulty_requests(server: Process) -> None:
    check(server, 1000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_faulty_requests(server: Process) -> None:
    check(server, 10_000)


def raw(server: Process, sent: bytes) -> bytes:
    address = (httpx.URL(server.url).host, httpx.URL(server.url).port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nabc",
        b"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: \xff\xfe\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_hardly_http(server: Process, sent: bytes) -> None:
    received = raw(server, sent)
    status = int(received[9:12]) if received else 0
    assert status < 500
    assert httpx.get(f"{server.url}/livez").status_code == 200
