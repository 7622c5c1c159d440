"""The server behind a proxy: its path, its connections, and whom it believes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import ValidationError

from src.serve.protocol import _unmapped
from src.serve.settings import Settings
from tests.bundles import write_bundle
from tests.flywheel.databases import PNG
from tests.serving import serving, wait_until

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("proxy") / "bundle")


def assert_all_is_there(client: httpx.Client, base: str) -> None:
    """The page, its files, the documentation and a reading, as a browser at ``base`` finds them."""
    page = client.get(base)
    assert page.status_code == 200
    for place in ("", "docs"):
        found = client.get(urljoin(base, place))
        links = re.findall(r'(?:src|href)="([^"#]+)"', found.text)
        assert links
        for link in links:
            assert client.get(urljoin(str(found.url), link)).status_code == 200, link
    document = client.get(urljoin(base, "openapi.json")).json()
    prefix = document.get("servers", [{"url": ""}])[0]["url"]
    # Where "Try it out" sends it, and where the page does.
    for path in (f"{prefix}/v1/read", urljoin(base, "v1/read")):
        answer = client.post(path, content=PNG)
        assert answer.json()["results"][0]["plates"][0]["plate"] == "BE1"
    assert client.get(urljoin(base, "nothing")).json()["error"]["code"] == "not_found"


def test_a_prefix_that_stays_or_is_removed(folder: Path) -> None:
    with serving(folder, root_path="/plates/", max_body_mib=0.125) as client:
        assert_all_is_there(client, "/plates/")
        # Removed by the proxy, and for the probes of the cluster.
        document = client.get("/openapi.json").json()
        assert document["servers"] == [{"url": "/plates"}]
        for path in ("/", "/docs", "/page/app.js", "/livez", "/plates/livez"):
            assert client.get(path).status_code == 200, path
        assert "unsafe-inline" in client.get("/plates/docs").headers["content-security-policy"]
        moved = client.get("/plates")
        assert (moved.status_code, moved.headers["location"]) == (307, "/plates/")
        moved = client.post("/plates/v1/read/", content=PNG)
        assert moved.headers["location"] == f"{client.base_url}/plates/v1/read"
        assert client.get("/platesx").status_code == 404
        text = client.get("/plates/metrics").text
        assert 'plates_request_seconds_count{route="/livez",status="200"} 2.0' in text
        assert client.post("/plates/v1/read", content=bytes(2**18)).status_code == 413


def test_without_a_prefix_nothing_has_one(folder: Path) -> None:
    with serving(folder) as client:
        assert_all_is_there(client, "/")
        assert "servers" not in client.get("/openapi.json").json()


def test_only_proxies_are_believed(folder: Path) -> None:
    def post(client: httpx.Client, forwarded: str | None) -> int:
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        return client.post("/v1/read", content=PNG, headers=headers).status_code

    with serving(folder, rate=0.0001, burst=1, trusted_proxies="127.0.0.1, 10.0.0.0/8") as client:
        assert [post(client, "203.0.113.1") for _ in range(2)] == [200, 429]
        assert post(client, "203.0.113.2") == 200
        # What a client claims to be stands before what the proxy has seen.
        assert post(client, "203.0.113.9, 203.0.113.2") == 429
        # Addresses of which a client has as many as it likes.
        assert [post(client, f"2001:db8:1:2::{number}") for number in range(2)] == [200, 429]
        assert post(client, "2001:db8:1:3::") == 200
        # By way of a second proxy of one's own.
        assert post(client, "203.0.113.3, 10.1.2.3") == 200
        assert post(client, "203.0.113.3") == 429
    with serving(folder, rate=0.0001, burst=1, trusted_proxies="10.0.0.0/8") as client:
        assert [post(client, "203.0.113.1"), post(client, "203.0.113.2")] == [200, 429]
    with serving(folder, rate=0.0001, burst=1, trusted_proxies="") as client:
        assert [post(client, "203.0.113.1"), post(client, None)] == [200, 429]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusted_proxies", "*"),
        ("trusted_proxies", "proxy.example"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("root_path", "plates"),
        ("root_path", "/a b"),
        ("root_path", "//elsewhere"),
        ("keep_alive_s", 0),
    ],
)
def test_settings_that_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})


def test_idle_connections_outlive_those_of_proxies(folder: Path) -> None:
    assert Settings().keep_alive_s > 60
    # Longer than uvicorn keeps them by itself.
    with serving(folder, keep_alive_s=7) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536)
            started = time.monotonic()
            while connection.recv(65536):
                pass
            assert 6 < time.monotonic() - started < 7 + 30


def test_addresses_of_ipv4_are_the_same_on_a_socket_for_both() -> None:
    assert _unmapped("::ffff:10.0.0.1") == "10.0.0.1"
    for host in ("10.0.0.1", "::1", "::ffff:0:0:1", "2001:db8::1"):
        assert _unmapped(host) == host


# A real nginx


@contextmanager
def nginx(port: int, keeps_prefix: bool) -> Iterator[int]:
    """The port of an nginx with the configuration of the guide, in front of a server."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert "CI" not in os.environ, "install nginx: .ci/run does"
        pytest.skip("nginx is not installed here")
    (site,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listening = free.getsockname()[1]
    for old, new in (
        ("server 127.0.0.1:8080;", f"server 127.0.0.1:{port};"),
        ("listen 80;", f"listen 127.0.0.1:{listening};"),
    ):
        assert site.count(old) == 1
        site = site.replace(old, new)
    assert site.count("http://plates;") == 2
    if not keeps_prefix:
        for removed in ("/", "/v1/events"):
            site = site.replace("http://plates;", f"http://plates{removed};", 1)
    with tempfile.TemporaryDirectory(prefix="plates-") as folder:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        user = "user root;\n" if os.geteuid() == 0 else ""
        file = Path(folder) / "nginx.conf"
        file.write_text(
            f"{user}daemon off; pid {folder}/pid; worker_processes 1; error_log stderr warn;\n"
            f"events {{}}\nhttp {{ access_log off;\n{paths}{site}}}\n"
        )
        with subprocess.Popen(
            [program, "-p", folder, "-e", "stderr", "-c", str(file)],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:

                def is_up() -> bool:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    with socket.socket() as connection:
                        return connection.connect_ex(("127.0.0.1", listening)) == 0

                wait_until(is_up, 60)
                yield listening
            finally:
                process.terminate()
                process.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("keeps_prefix", [True, False], ids=["prefix", "no-prefix"])
def test_behind_nginx(folder: Path, keeps_prefix: bool) -> None:
    with (
        serving(folder, root_path="/plates", rate=0.0001, burst=10) as direct,
        nginx(direct.base_url.port or 0, keeps_prefix) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        assert_all_is_there(client, "/plates/")
        moved = client.get("/plates")
        assert moved.status_code in (301, 307)
        assert urljoin(str(moved.url), moved.headers["location"]).endswith("/plates/")
        moved = client.post("/plates/v1/read/", content=PNG)
        assert moved.headers["location"] == f"{client.base_url}/plates/v1/read"
        # A photograph, which nginx keeps in a file.
        large = PNG + bytes(10 * 2**20)
        assert client.post("/plates/v1/read", content=large).status_code == 200
        too_large = client.post("/plates/v1/read", content=bytes(33 * 2**20))
        assert too_large.status_code == 413
        # As large as a clip may be; but it is none.
        assert client.post("/plates/v1/events", content=bytes(33 * 2**20)).status_code == 415

        # Connections to the server stay open, longer than it would have kept them once.
        state = direct.server.server_state  # type: ignore[attr-defined]
        for _ in range(20):
            assert client.get("/plates/livez").status_code == 200
        kept = set(state.connections)
        assert 0 < len(kept) < 20
        time.sleep(12)
        assert client.get("/plates/livez").status_code == 200
        assert kept & set(state.connections)

        # Each client has a rate of its own, whatever it claims to be.
        def post(address: str, number: int) -> int:
            transport = httpx.HTTPTransport(local_address=address)
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            with httpx.Client(base_url=client.base_url, transport=transport, timeout=60) as other:
                return other.post("/plates/v1/read", content=PNG, headers=headers).status_code

        statuses = [post("127.0.0.2", number) for number in range(11)]
        assert statuses == [200] * 10 + [429]
        assert post("127.0.0.3", 0) == 200


def test_the_guide_agrees_with_the_settings() -> None:
    text = GUIDE.read_text("utf-8")
    for limit in (Settings().max_body_mib, Settings().max_clip_mib):
        assert text.count(f"client_max_body_size {limit:g}m;") == 1
    assert f"{Settings().keep_alive_s} seconds" in text
