"""The process: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import pytest

from src.inference import bundle
from src.inference.bundle import Bundle
from src.serve.__main__ import main
from src.serve.engine import Model
from tests.bundles import scene, write_bundle
from tests.serving import process, serving, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def image(text: str = "BE1") -> bytes:
    return cv2.imencode(".png", scene(text))[1].tobytes()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_torch_is_not_needed(folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['pandas'] = None\n"
        "from src.serve.server import Server; from src.serve.settings import Settings\n"
        "from src.serve.engine import load_model; from pathlib import Path\n"
        f"load_model(Path({str(folder)!r})); Server(Settings()); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "99999"), "--port (PLATES_PORT)"),
        (("--queue", "0"), "--queue (PLATES_QUEUE)"),
        (("--rate", "inf"), "--rate (PLATES_RATE)"),
        (("--max-pending-mib", "inf"), "--max-pending-mib (PLATES_MAX_PENDING_MIB)"),
        (("--engine", "other"), "--engine (PLATES_ENGINE)"),
        (("--api-keys", "/nowhere"), "--api-keys: /nowhere"),
    ],
)
def test_wrong_settings_are_explained(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["--feedback", "sqlite:///feedback.db"], "--feedback, --rate"),
        (["--api-keys", "keys", "--host", "::1", "--port", "1"], "--api-keys, --rate"),
    ],
)
def test_settings_without_effect_on_mlem_are_refused(
    arguments: list[str],
    flags: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever asks for keys must not get a server without them."""
    monkeypatch.setenv("PLATES_RATE", "2")
    assert main(["--engine", "mlem", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"error: {flags}: MLEM's server has no such setting")


def test_help_names_every_setting() -> None:
    done = run("--help")
    assert done.returncode == 0
    for flag in ("--host", "--max-body-mib", "--deadline-s", "--api-keys", "--rate"):
        assert flag in done.stdout


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (64, 64), (65, 64), (448, 64)])
def test_any_number_of_cores_gives_settings(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.serve import settings

    monkeypatch.setattr(settings, "available_cores", lambda: cores)
    assert settings.Settings().workers == workers


def test_threads_are_as_many_as_workers(folder: Path) -> None:
    with serving(folder, workers=1) as client:
        client.post("/v1/read", content=image())
        engine = client.server.engine  # type: ignore[attr-defined]
        assert engine.model.reader.threads == 1
        assert cv2.getNumThreads() == 1
    with serving(folder, workers=2) as client:
        engine = client.server.engine  # type: ignore[attr-defined]
        assert engine.model.reader.threads == 2


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_a_host_for_ipv6_takes_ipv4_too(folder: Path) -> None:
    with process(
        "--model", str(folder), "--host", "::", "--rate", "0.001", "--burst", "1"
    ) as server:
        port = httpx.URL(server.url).port
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert httpx.get(f"http://{host}:{port}/livez").status_code == 200
        # 127.0.0.1 is a trusted proxy, on such a socket too.
        for number in range(2):
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            url = f"http://127.0.0.1:{port}/v1/read"
            assert httpx.post(url, content=image(), headers=headers).status_code == 200


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_bundle_that_cannot_be_used_ends_it(folder: Path, damage: str) -> None:
    if damage == "missing":
        shutil.rmtree(folder)
    else:
        path = folder / bundle.RECOGNIZER
        path.write_bytes(path.read_bytes()[:-1])
    done = run("--port", "0", "--model", str(folder))
    assert done.returncode == 1
    assert f"error: {folder}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_a_port_that_is_taken_ends_it(folder: Path, host: str) -> None:
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = str(taken.getsockname()[1])
        done = run("--host", host, "--port", port, "--model", str(folder))
    assert done.returncode == 1
    said = f"error: --host {host} --port {port}: Address already in use; choose another --port"
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_ends_it(folder: Path) -> None:
    # Of documentation only (RFC 5737).
    done = run("--host", "192.0.2.1", "--port", "0", "--model", str(folder))
    assert done.returncode == 1
    assert "error: --host 192.0.2.1 --port 0: Cannot assign requested address; " in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_answers_what_is_in_flight(folder: Path) -> None:
    with process("--model", str(folder), "--drain-s", "1", "--workers", "1") as server:
        url = server.url
        stop = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=20) as client:
                while not stop.is_set():
                    try:
                        statuses.append(client.post("/v1/read", content=image()).status_code)
                    except httpx.TransportError:
                        statuses.append(0)
                        return

        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(ask)
            wait_until(lambda: statuses.count(200) > 20)
            server.signal(signal.SIGTERM)
            wait_until(lambda: 503 in statuses)
            ready = httpx.get(f"{url}/readyz")
            assert (ready.status_code, ready.json()["error"]["code"]) == (503, "draining")
            assert httpx.get(f"{url}/livez").status_code == 200
            wait_until(lambda: server.process.poll() is not None)
            stop.set()
        # Connections end when the port is closed, none before.
        assert set(statuses) <= {200, 503, 0}
        first = statuses.index(503)
        assert 0 not in statuses[:first]
        assert "Traceback" not in server.log


def test_sigterm_while_idle_ends_it_at_once(folder: Path) -> None:
    with process("--model", str(folder)) as server:
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        server.process.wait(10)
        assert time.monotonic() - started < 2


def test_sighup_takes_a_new_bundle_and_no_bad_one(folder: Path, tmp_path: Path) -> None:
    with process("--model", str(folder)) as server:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            stop = threading.Event()
            statuses: list[int] = []

            def ask() -> None:
                with httpx.Client(base_url=server.url, timeout=20) as asking:
                    while not stop.is_set():
                        statuses.append(asking.post("/v1/read", content=image()).status_code)

            thread = threading.Thread(target=ask)
            thread.start()
            first = client.get("/v1/model").json()
            # A bad one first: the old one goes on.
            path = folder / bundle.RECOGNIZER
            content = path.read_bytes()
            path.write_bytes(content[:-1])
            server.signal(signal.SIGHUP)
            wait_until(lambda: "the new bundle cannot be used" in server.log)
            assert client.get("/v1/model").json() == first
            # Then another one.
            path.write_bytes(content)
            new = write_bundle(tmp_path / "new", threshold=0.9)
            changed = (new / bundle.RECOGNIZER).read_bytes().replace(b"reader", b"READER")
            (new / bundle.RECOGNIZER).write_bytes(changed)
            from tests.bundles import write_manifest

            write_manifest(new, threshold=0.9)
            for name in (bundle.RECOGNIZER, bundle.MANIFEST):
                shutil.copy(new / name, folder / name)
            server.signal(signal.SIGHUP)
            wait_until(lambda: "now using bundle" in server.log)
            second = client.get("/v1/model").json()
            assert second["model"] != first["model"]
            assert second["manifest"]["threshold"] == 0.9
            stop.set()
            thread.join()
        assert set(statuses) == {200}
        assert Bundle.load(folder).manifest.threshold == 0.9


def test_the_bundle_that_was_asked_for_last_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder) as client:
        engine = client.server.engine  # type: ignore[attr-defined]
        reader = engine.model.reader
        loaded: list[str] = []

        def load(*_: object) -> Model:
            version = f"version {len(loaded)}"
            loaded.append(version)
            # The first takes longer.
            time.sleep(0.5 if len(loaded) == 1 else 0)
            return Model(reader, version)

        monkeypatch.setattr("src.serve.engine.load_model", load)
        loop = engine._dispatcher.get_loop()
        both = [asyncio.run_coroutine_threadsafe(engine.reload(), loop) for _ in range(2)]
        for each in both:
            each.result(20)
        assert loaded == ["version 0", "version 1"]
        assert client.get("/v1/model").json()["model"] == "version 1"


def test_readyz_waits_for_the_first_inference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.serve import engine as module

    gate = threading.Event()
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda *given: (gate.wait(20), load(*given))[1])
    opened = threading.Timer(1.0, gate.set)
    seen: list[int] = []

    from src.serve.server import Server
    from src.serve.settings import Settings

    server = Server(Settings(model=folder, port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    opened.start()
    assert httpx.get(f"{url}/livez").status_code == 200
    seen.append(httpx.get(f"{url}/readyz").status_code)
    refused = httpx.post(f"{url}/v1/read", content=image())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "starting")
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    assert seen == [503]
    server.should_exit = True
    thread.join(20)


def test_headers_that_never_end(folder: Path) -> None:
    with serving(folder) as client:
        address = (client.base_url.host, client.base_url.port)
        for sent in (b"GET / HTTP/1.1\r\nX-Long: ", b"GET /"):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(sent)
                total = 0
                try:
                    while total < 8 * 2**20:
                        connection.sendall(b"x" * 65536)
                        total += 65536
                except OSError:
                    pass
                assert total < 4 * 2**20
        assert client.get("/livez").status_code == 200


def test_kill_and_restart_is_quick(folder: Path) -> None:
    with process("--model", str(folder)) as server:
        with ThreadPoolExecutor(2) as pool:

            def ask() -> None:
                for _ in range(50):
                    try:
                        httpx.post(f"{server.url}/v1/read", content=image())
                    except httpx.TransportError:
                        return

            for _ in range(2):
                pool.submit(ask)
            time.sleep(0.2)
            server.process.kill()
        server.process.wait(10)
    started = time.monotonic()
    with process("--model", str(folder)) as server:
        assert httpx.post(f"{server.url}/v1/read", content=image()).status_code == 200
        assert time.monotonic() - started < 3


def test_the_lines_of_the_guide(folder: Path, tmp_path: Path) -> None:
    part = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    curl = re.search(r"^curl [^#\n]*", part, re.MULTILINE)
    python = re.search(r"```python\n(.*?)```", part, re.DOTALL)
    assert curl
    assert python
    (tmp_path / "car.jpg").write_bytes(cv2.imencode(".jpg", scene("BE1"))[1].tobytes())
    with process("--model", str(folder)) as server:
        for command in ([*shlex.split(curl[0])], [sys.executable, "-c", python[1]]):
            words = [word.replace("http://127.0.0.1:8080", server.url) for word in command]
            done = subprocess.run(
                words, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "BE1" in done.stdout
