"""The command with sinks and a watch list, as people call it, and killed."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.flywheel.events import EventFilter, EventStore
from src.sinks.outbox import Outbox
from src.watch.__main__ import main
from tests.bundles import write_bundle
from tests.serving import wait_until
from tests.sinks.brokers import mosquitto, take
from tests.sinks.hooks import hook
from tests.video.cameras import http_camera
from tests.video.footage import empty, frame_with, passing, write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("sinks") / "bundle")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "one.mp4", passing("ZH123456"))
    write_video(folder / "two.mp4", passing("ZH123456") + passing("BE1"))
    write_video(folder / "none.mp4", [empty()] * 10)
    return folder


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PLATES_WEBHOOK_SECRET", "PLATES_MQTT_USER", "PLATES_MQTT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def run(
    capfd: pytest.CaptureFixture[str], model: Path, *arguments: str | Path
) -> tuple[int, list[str], str]:
    status = main([*map(str, arguments), "--model", str(model)])
    output, errors = capfd.readouterr()
    return status, output.splitlines(), errors


def test_without_a_sink_nothing_is_written(
    model: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines, _ = run(capfd, model, clips / "one.mp4", "--json")
    assert status == 0
    assert "match" not in json.loads(lines[0])
    assert list(tmp_path.iterdir()) == []


def test_events_go_to_all_sinks_and_to_standard_output(
    model: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("a secret")
    with hook() as server:
        status, lines, errors = run(
            capfd, model, f"gate={clips / 'two.mp4'}", "--json", "--to", server.url, "--to",
            f"sqlite:///{tmp_path}/events.db", "--keep-days", "30", "--outbox", tmp_path / "o.db",
            "--with-images", "--secret-file", tmp_path / "secret",
        )  # fmt: skip
    assert status == 0, errors
    printed = [json.loads(line) for line in lines]
    assert [each["plate"] for each in printed] == ["ZH123456", "BE1"]
    assert all("image" not in each["best"] for each in printed)
    sent = [request.event for request in server.requests]
    assert all(request.headers["webhook-signature"] for request in server.requests)
    images = [base64.b64decode(each["best"].pop("image")) for each in sent]
    assert sent == printed
    assert all(image.startswith(b"\xff\xd8") for image in images)
    store = EventStore(f"sqlite:///{tmp_path}/events.db")
    rows = {row.id: row for row in store.search(EventFilter())}
    assert [rows[each["id"]].event for each in printed] == printed
    assert [store.image(each["id"]) for each in printed] == images
    store.close()
    outbox = Outbox(tmp_path / "o.db")
    assert outbox.waiting() == {}
    outbox.close()
    assert "not delivered" not in errors


@pytest.mark.slow
def test_events_go_to_a_broker(
    model: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with mosquitto(tmp_path) as broker, broker.listening() as messages:
        status, lines, errors = run(
            capfd, model, f"gate={clips / 'one.mp4'}", "--json", "--with-images", "--to",
            f"mqtt://127.0.0.1:{broker.port}/house?discovery=homeassistant",
        )  # fmt: skip
        found = {each.topic: each.payload for each in take(messages, 5)}
    assert status == 0, errors
    assert json.loads(found["house/gate/event"]) == json.loads(lines[0])
    assert found["house/gate/image"].startswith(b"\xff\xd8")
    # online first, offline in the end.
    assert "house/state" in found
    assert sum(topic.startswith("homeassistant/") for topic in found) == 2


def test_a_file_of_sources_names_sinks_and_a_watch_list(
    model: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("plate,label\nZH123456,mine\n")
    with hook() as server:
        path = tmp_path / "cameras.toml"
        path.write_text(
            f'to = ["{server.url}"]\nwatch_list = "list.csv"\nmin_match = 0.3\noutbox = "box.db"\n'
            f'[gate]\nsource = "{clips / "two.mp4"}"\n'
        )
        status, lines, errors = run(capfd, model, "--sources", path)
    assert status == 0, errors
    assert "on the watch list: mine (ZH123456, " in lines[0]
    assert "watch list" not in lines[1]
    match, other = (request.event["match"] for request in server.requests)
    assert (match["plate"], match["label"]) == ("ZH123456", "mine")
    assert match["probability"] > 0.3
    assert other is None
    assert (tmp_path / "box.db").exists()


def test_what_a_server_refuses_is_told_and_is_no_success(
    model: Path, clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with hook() as server:
        server.answers = [(403, {})]
        status, lines, errors = run(capfd, model, clips / "two.mp4", "--to", server.url)
        assert status == 1
        assert len(lines) == 2
        assert len(server.requests) == 2
        assert "answers 403 Forbidden; the event is set aside" in errors
        assert "outbox.db: not delivered: 1, of which refused: 1" in errors
        status, lines, errors = run(capfd, model, clips / "none.mp4", "--to", server.url)
        assert (status, lines) == (0, [])
        assert server.plates == ["ZH123456", "BE1", "ZH123456"]


def test_a_server_that_is_away_gets_its_events_at_the_next_start(
    model: Path, clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with hook() as server:
        port, url = server.port, server.url
    status, lines, errors = run(capfd, model, clips / "two.mp4", "--to", url)
    assert status == 0
    assert len(lines) == 2
    assert "cannot be reached" in errors
    assert "outbox.db: not delivered: 2, of which refused: 0" in errors
    with hook(port) as server:
        status, lines, errors = run(capfd, model, clips / "none.mp4", "--to", url)
        assert (status, lines) == (0, [])
    assert server.plates == ["ZH123456", "BE1"]
    assert "outbox.db: events of before that are sent now: 2" in errors


def test_a_kill_between_taking_and_delivering_loses_nothing(
    model: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = [str(clips / "two.mp4"), "--json", "--model", str(model), "--outbox"]
    command = [sys.executable, "-m", "src.watch", *arguments, str(tmp_path / "o.db"), "--to"]
    with hook() as server:
        # It takes the first event and never says so.
        server.delay = 3600
        process = subprocess.Popen(
            [*command, server.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        printed = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: bool(server.requests))
        server.requests.clear()
        server.delay = 0
        command[3] = str(clips / "none.mp4")
        subprocess.run([*command, server.url], cwd=ROOT, check=True, timeout=100)
    assert [request.event for request in server.requests] == printed
    assert [each["plate"] for each in printed] == ["ZH123456", "BE1"]


def test_a_signal_delivers_the_events_of_vehicles_that_are_still_there(
    model: Path, tmp_path: Path
) -> None:
    with hook() as server, http_camera([frame_with(("BE1", 100, 100, 96))]) as camera:
        arguments = [f"gate=http://{camera.host}/snapshot", "--delay", "600", "--model", str(model)]
        command = [sys.executable, "-m", "src.watch", *arguments, "--to", server.url, "--outbox"]
        process = subprocess.Popen(
            [*command, str(tmp_path / "o.db")], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        try:
            wait_until(lambda: len(camera.requests) > 12, 100)
            assert server.requests == []
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert server.plates == ["BE1"]
    assert server.requests[0].event["first_at"].endswith("Z")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--to", "ftp://host/"], "ftp is no kind of sink; use https://"),
        (["--to", "sqlite:///events.db"], "give --keep-days"),
        (["--to", "sqlite:///events.db", "--keep-days", "0"], "`--keep-days`"),
        (["--to", "https://host/", "--outbox", "no/o.db"], "no/o.db: cannot be opened"),
        (["--watch-list", "none.csv"], "none.csv: there is no such file"),
        (["--min-match", "0.5"], "--min-match needs --watch-list"),
        (["--watch-list", "none.csv", "--min-match", "2"], "`--min-match`"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], what: str, model: Path, clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines, errors = run(capfd, model, clips / "one.mp4", *arguments)
    assert (status, lines) == (1, [])
    assert errors.startswith("error: ")
    assert what in errors
