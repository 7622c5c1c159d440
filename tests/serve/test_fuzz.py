"""Generated requests, byte by byte: nothing that a client sends is an error of the server.

``PLATES_FUZZ_REQUESTS`` sets how many are sent by each of the three tests; more than 100,000 together:

    PLATES_FUZZ_REQUESTS=40000 python -m pytest tests/serve/test_fuzz.py -s -p no:xdist -o timeout=0
"""

from __future__ import annotations

import gzip
import logging
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.bundles import write_bundle
from tests.flywheel.databases import PNG
from tests.serving import serving

REQUESTS = int(os.environ.get("PLATES_FUZZ_REQUESTS", "200"))


class Server:
    """A server, the statuses of its answers, and what it has logged as an error."""

    def __init__(self, client: httpx.Client) -> None:
        self.url = str(client.base_url)
        self._address = (client.base_url.host, client.base_url.port)
        self._engine = client.server.engine  # type: ignore[attr-defined]
        self.statuses: Counter[int] = Counter()

    def ask(self, request: bytes) -> int:
        """Status of the first answer to a request, sent as it is; 0 if there is none."""
        answer = b""
        opened = socket.create_connection(self._address, timeout=60)
        with opened as connection, suppress(ConnectionError):
            connection.sendall(request)
            while not select.select([connection], [], [], 0.2)[0]:
                if not self._engine.pending:
                    # The request lacks something, and no more will come.
                    connection.shutdown(socket.SHUT_WR)
                    break
            answer = connection.recv(65536)
        status = int(answer[9:12]) if answer else 0
        self.statuses[status] += 1
        return status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzz")
    # With a store, as a server without one answers feedback with 503, and with time, as others compute.
    with serving(
        write_bundle(folder / "bundle"),
        feedback=f"sqlite:///{folder}/f.db",
        max_body_mib=1,
        max_files=3,
        max_pixels=1_000_000,
        deadline_s=120,
        # Those of requests before may be leaving still.
        max_clips=100,
        root_path="/plates",
    ) as client:
        yield Server(client)


@contextmanager
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert not errors, errors[0].getMessage()


def fuzzed(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


# Bytes of requests

CODECS = (
    "utf-8", "utf8", "UTF-7", "utf-16", "utf-32-be", "latin-1", "punycode", "idna", "undefined",
    "unicode_escape", "raw_unicode_escape", "base64", "hex", "rot13", "zip", "bz2", "uu", "quopri",
    "mbcs", "oem", "cp037", "cp65001", "shift_jis", "iso2022_kr", "hz", "gb18030", "big5hkscs",
    "_charset_", "", "none", "utf-99", "x" * 300, "\0",
)  # fmt: skip
ODD = (
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"--x", b"--x--", b'"', b"\\", b"\\\"", b";", b"=",
    b"*", b"'", b"''", b"%", b"%00", b"%ED%A0%80", b"%FF", b"+2AA-", b"\xed\xa0\x80", b"\xff\xfe",
    b"\xf0\x9f\x9a\x97", b"\x80", b"A" * 5000, b"9" * 5000, b"filename*=", b"filename*0*=",
    b"UTF-8''", b"../..", b"C:\\", b"xn--",
)  # fmt: skip


PARAMETERS = (
    b"name", b"NAME", b"filename", b"Filename", b"filename*", b"filename *", b"name*",
    b"filename*0", b"filename*0*", b"filename*1*", b"charset", b"boundary", b"", b"_charset_",
)  # fmt: skip
HEADERS = (
    b"X-API-Key", b"X-Request-ID", b"Content-Encoding", b"Content-Type", b"Content-Length",
    b"Expect", b"Transfer-Encoding", b"Host", b"Range", b"If-Range", b"If-None-Match",
    b"If-Modified-Since", b"Accept-Encoding", b"Accept", b"Cookie", b"Authorization", b"Upgrade",
    b"Connection", b"Origin", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host",
    b"Forwarded", b"HTTP2-Settings", b"Access-Control-Request-Method", b"TE", b"Trailer", b"Via",
    b"Date",
)  # fmt: skip
VALUES = (
    b"gzip", b"identity", b"chunked", b"gzip, chunked", b"100-continue", b"bytes=0-",
    b"bytes=5-2,9-", b"bytes=-5", b"bytes=0-" + b"9" * 5000, b"bytes=a-b", b"websocket",
    b"Upgrade, HTTP2-Settings", b"h2c", b"Mon, 01 Jan 0001 00:00:00 GMT",
    b"Sat, 99 Foo 99999 99:99:99 -9999", b"*", b'W/"a", "', b"[", b"[::1", b"[::1]:99999", b"a:b:c",
    b"http", b"1.2.3.4, unknown, ::ffff:1.2.3.4", b"application/json", b"image/png", b"-1", b"1e9",
    b"9" * 5000, b"close",
)  # fmt: skip


def joined(parts: st.SearchStrategy[bytes], most: int = 5) -> st.SearchStrategy[bytes]:
    return st.lists(parts, max_size=most).map(b"".join)


def picked(*texts: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(texts)


def mostly(
    usual: st.SearchStrategy[bytes], other: st.SearchStrategy[bytes], times: int = 8
) -> st.SearchStrategy[bytes]:
    """The usual, and one in so many times the other."""
    return st.integers(0, times).flatmap(lambda number: other if number == times else usual)


def unbroken(text: bytes) -> bytes:
    return text.replace(b"\r", b"").replace(b"\n", b"")


odd = joined(picked(*ODD) | st.binary(max_size=8) | st.text(max_size=8).map(str.encode))
line = odd.map(unbroken)
"""Text of a header: not without faults, but within its line."""
codec = mostly(st.sampled_from(CODECS).map(str.encode), line)
short = mostly(line, odd).map(lambda value: value[:200])
"""Text that leaves a header within its size."""


@st.composite
def parameter(draw: st.DrawFn) -> bytes:
    name = draw(picked(*PARAMETERS))
    names = picked(b"file", b"files", b"_charset_", b"Z\xc3\xbcrich.jpg", b"a+2AA-.jpg")
    value = draw(names | short)
    form = draw(st.integers(0, 7))
    if form < 4:
        return b'%s="%s"' % (name, value.replace(b'"', b""))
    if form == 4:
        return b"%s=%s" % (name, value)
    if form < 7:
        return b"%s=%s'%s'%s" % (name, draw(codec), draw(picked(b"", b"de")), value)
    return draw(short)


@st.composite
def part(draw: st.DrawFn) -> bytes:
    """A part of a form, mostly one that could be."""
    disposition = b"Content-Disposition: form-data"
    if draw(st.integers(0, 7)):
        disposition += b'; name="%s"' % draw(picked(b"file", b"files"))
    if draw(st.booleans()):
        disposition += draw(picked(b'; filename="a.jpg"', b"; filename*=UTF-8''Z%C3%BCrich.jpg"))
    disposition += b"".join(b"; " + each for each in draw(st.lists(parameter(), max_size=2)))
    head = [disposition]
    if draw(st.booleans()):
        head.append(b"Content-Type: image/jpeg; charset=" + draw(codec))
    if not draw(st.integers(0, 7)):
        names = (b"Content-Encoding", b"Content-Transfer-Encoding", b"Content-Disposition", b"")
        values = picked(b"base64", b"gzip", b"binary") | line
        head.append(draw(mostly(picked(*names), short)) + b": " + draw(values))
    content = draw(picked(PNG, PNG, b"", PNG[:90]) | odd)
    return b"\r\n".join([*head, b"", content])


@st.composite
def multipart(draw: st.DrawFn) -> bytes:
    """The headers and body of a form, with the boundary x."""
    parts = draw(st.lists(part(), min_size=1, max_size=4))
    body = b"".join(b"--x\r\n" + each + b"\r\n" for each in parts)
    body += draw(mostly(picked(b"--x--\r\n", b"--x--"), picked(b"", b"--x", b"--x-")))
    if not draw(st.integers(0, 6)):
        start = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(start, len(body)))
        body = body[:start] + draw(odd) + body[end:]
    kind = b"Content-Type: multipart/form-data; boundary="
    kind += draw(mostly(picked(b"x", b'"x"'), picked(b"", b"y") | line))
    if draw(st.booleans()):
        kind += b"; charset=" + draw(codec)
    extra = draw(st.lists(header(), max_size=1)) if draw(st.booleans()) else []
    return b"\r\n".join([kind, *extra, b"Content-Length: %d" % len(body), b"", body])


@st.composite
def header(draw: st.DrawFn) -> bytes:
    name = draw(mostly(picked(*HEADERS), line))
    value = draw(mostly(picked(*VALUES), line, 3))
    return name + b": " + value


PATHS = (
    b"/", b"/predict", b"/v1/read", b"/v1/events", b"/v1/read/", b"/v1/feedback",
    b"/v1/feedback/" + b"0" * 32,
    b"/v1/feedback/%00", b"/v1/feedback/%ED%A0%80", b"/v1/model", b"/livez", b"/readyz",
    b"/metrics", b"/docs", b"/openapi.json", b"/page/app.js", b"/page/", b"/page", b"/page/%00",
    b"/page/../x", b"/page/%2e%2e/app.py", b"/page//etc/passwd", b"/page/" + b"a" * 3000,
    b"/page/a\\b", b"/page/~", b"/swagger/swagger-ui.css", b"/swagger/%F0%9F%9A%97", b"*", b"//",
    b"//elsewhere/v1/read/", b"/v1//read", b"/%", b"/%zz", b"/plates", b"/plates/", b"/plates/docs",
    b"/plates/plates", b"/platesx", b"/plates/v1/read/", b"/plates/page/app.js",
    b"http://elsewhere/v1/read", b"http://[/", b"/?" + b"a" * 3000, b"/v1/read?%ff=%00&x",
    b"elsewhere:443",
)  # fmt: skip
METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
    b"PROPFIND", b"get", b"PRI", b"M-SEARCH", b"",
)  # fmt: skip
JSON = (
    b'{"id": "' + b"0" * 32 + b'", "plate": 0, "verdict": "right"}', b"{}", b"[]", b"null", b'"',
    b"[" * 5000, b'{"id": "\\ud800", "verdict": "right"}', b'{"id": "\\u0000", "verdict": "right"}',
    b'{"\\ud800": 1}', b'{"id": "a", "plate": 1e400, "verdict": "missed"}',
    b'{"id": 1, "plate": ' + b"9" * 5000 + b"}", b"NaN",
    b'{"id": "a", "verdict": "wrong", "corners": [[NaN, 1], [1e308, -1e308], [0, 0], [0, 0]]}',
    b"\xff", b"\xef\xbb\xbf{}",
)  # fmt: skip


@st.composite
def any_request(draw: st.DrawFn) -> bytes:
    """A request to any route, or hardly one."""
    target = draw(mostly(picked(*PATHS), line.map(lambda name: b"/" + name)))
    method = draw(mostly(picked(b"GET", b"POST"), picked(*METHODS), 3))
    versions = picked(b"HTTP/1.0", b"HTTP/2.0", b"", b"HTTP/1.1 ")
    version = draw(mostly(picked(b"HTTP/1.1"), versions))
    extra = draw(st.lists(header(), max_size=2))
    head = [b" ".join((method, target, version)), b"Host: x", *extra]
    body = draw(picked(b"", PNG, *JSON) | odd)
    kind = draw(picked(b"application/json", b"image/png", b"", b"text/html"))
    if kind:
        head.append(b"Content-Type: " + kind)
    framing = draw(st.integers(0, 4))
    if framing == 0 and body:
        head.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n" % (len(body), body) + draw(
            picked(b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"zz\r\n")
        )
    elif framing < 4:
        head.append(b"Content-Length: %d" % len(body))
    request = b"\r\n".join([*head, b"", body])
    if not draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(request)))
        request = request[:at] + draw(odd) + request[at + draw(st.integers(0, 3)) :]
    return request


def form_with(disposition: bytes, kind: bytes = b"") -> bytes:
    head = b"Content-Disposition: form-data; " + disposition
    body = b"--x\r\n" + head + b"\r\n\r\n" + PNG + b"\r\n--x--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x" + kind
    return b"\r\n".join([kind, b"Content-Length: %d" % len(body), b"", body])


# Tests


def send_forms(server: Server, count: int) -> None:
    @example(
        path=b"/predict", form=form_with(b'name="file"; filename="a.jpg"', b"; charset=undefined")
    )
    @example(
        path=b"/v1/read", form=form_with(b'name="files"; filename="a+2AA-.jpg"', b"; charset=utf-7")
    )
    @fuzzed(count)
    @given(path=picked(b"/predict", b"/v1/read"), form=multipart())
    def send(path: bytes, form: bytes) -> None:
        status = server.ask(
            b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s" % (path, form)
        )
        assert status < 500, (path, form)

    send()


@pytest.mark.timeout(1200)
def test_forms_of_any_bytes(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.statuses.clear()
    with no_errors(caplog):
        send_forms(server, REQUESTS)
    # They were not all refused at the door.
    assert set(server.statuses) >= {200, 400, 415}
    print(f"{sum(server.statuses.values())} forms: {dict(server.statuses)}")


@pytest.mark.timeout(1200)
def test_requests_of_any_bytes(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    compressed = gzip.compress(PNG)

    @example(
        request=b"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(compressed), compressed)
    )
    @fuzzed(REQUESTS)
    @given(request=any_request())
    def send(request: bytes) -> None:
        assert server.ask(request) < 500, request

    server.statuses.clear()
    with no_errors(caplog):
        send()
    assert set(server.statuses) >= {200, 400, 404, 405}
    print(f"{sum(server.statuses.values())} requests: {dict(server.statuses)}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_requests_by_the_schema(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) > 7
    statuses: Counter[int] = Counter()

    def send(case: schemathesis.Case) -> None:
        status = case.call(timeout=60).status_code
        statuses[status] += 1
        assert status < 500, case.as_curl_command()

    with no_errors(caplog):
        for operation in operations:
            fuzzed(-(-REQUESTS // len(operations)))(given(case=operation.as_strategy())(send))()
    assert statuses[200]
    print(f"{sum(statuses.values())} requests by the schema: {dict(statuses)}")


def test_the_fuzzing_finds_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names decoded by the charset that the client chooses, as it was."""
    from src.serve import uploads

    monkeypatch.setattr(uploads, "_decoded", lambda name: name.decode("undefined"))
    with pytest.raises((AssertionError, ExceptionGroup)):
        send_forms(server, 20)
