"""Clips over HTTP: events as lines, refusals, limits, and that nothing is left of a clip."""

from __future__ import annotations

import json
import os
import socket
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import msgspec
import numpy as np
import psutil
import pytest

from src.inference.reader import PlateReader
from src.read.clips import read_clip
from src.serve import clips
from src.serve.clip_task import DECODER
from src.serve.schemas import ClipEvent, ClipLine
from src.video.events import Event
from tests.bundles import TEXTS, UNSURE, scene, write_bundle
from tests.serving import process, serving, wait_until, write_keys
from tests.video.footage import SIZE, empty, frame_with, passing, write_video

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("clips") / "bundle")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with patient(folder) as client:
        yield client


@contextmanager
def patient(folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server, which waits for processes of the lowest priority."""
    with serving(folder, **settings) as client:
        client.timeout = httpx.Timeout(200)
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("clip")
    return write_video(folder / "clip.mp4", passing("ZH123456")).read_bytes()


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A clip of 500 seconds, in all of which something moves: reading it takes tens of seconds."""
    path = tmp_path_factory.mktemp("long") / "clip.avi"
    frames = (frame_with(("BE1", 5 + 9 * i % 200, 20 + 7 * i % 150, 96)) for i in range(4000))
    return write_video(path, frames, 8.0, "MJPG").read_bytes()


def send(client: httpx.Client, content: bytes, name: str = "c.mp4", **options: Any) -> Any:
    return client.post("/v1/events", files={"file": (name, content)}, **options)


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    lines = [json.loads(line) for line in response.text.splitlines()]
    for line in lines:
        ClipLine.model_validate(line)
    return lines


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"], error["limit"]


def children() -> list[psutil.Process]:
    """The processes that read clips."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            if any("clip_process" in word for word in each.cmdline()):
                found.append(each)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


# Events


def test_a_clip_gives_its_progress_and_its_events(
    client: httpx.Client, clip: bytes, folder: Path, tmp_path: Path
) -> None:
    response = send(client, clip, "Zürich.mp4")
    assert response.headers["content-type"] == "application/x-ndjson"
    *progress, last = lines_of(response)
    kinds = [line["type"] for line in progress]
    assert kinds[0] == "progress"
    assert set(kinds) == {"progress", "event"}
    seconds = [line["second"] for line in progress if line["type"] == "progress"]
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 2
    assert {line["seconds"] for line in progress if line["type"] == "progress"} == {3.0}
    # The same as the command gives, but for the source.
    path = tmp_path / "Zürich.mp4"
    path.write_bytes(clip)
    reader = PlateReader.load(folder)
    read = read_clip(str(path), reader, None, "standard", print, lambda *_: None)
    assert (last["type"], last["name"]) == ("result", "Zürich.mp4")
    assert (last["width"], last["height"]) == SIZE
    assert last["frames"] == 24
    assert last["seconds"] == 2.9
    assert last["warnings"] == []
    assert last["model"] == client.get("/v1/model").json()["model"]
    (event,) = last["events"]
    (wanted,) = json.loads(msgspec.json.encode(read.events))
    assert event["plate"] == "ZH123456"
    assert {**event, "id": "", "source": ""} == {**wanted, "id": "", "source": ""}
    assert event["source"] == "Zürich.mp4"
    given = [line["event"] for line in progress if line["type"] == "event"]
    assert given[-1] == event
    assert set(event) == set(ClipEvent.model_fields)


def test_the_schema_has_the_fields_of_events() -> None:
    # Those of live sources and of watch lists are not there.
    live = {"first_at", "last_at", "match"}
    assert set(ClipEvent.model_fields) == set(Event.__struct_fields__) - live


@pytest.mark.parametrize("kind", ["video/mp4", "application/octet-stream", None])
def test_a_clip_may_be_the_body(client: httpx.Client, clip: bytes, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = client.post("/v1/events", content=clip, headers=headers)
    assert [event["plate"] for event in lines_of(response)[-1]["events"]] == ["ZH123456"]


def test_best_frames_are_there_if_asked_for(client: httpx.Client, clip: bytes) -> None:
    lines = lines_of(send(client, clip, params={"images": True}))
    seen = [line["event"] for line in lines if line["type"] == "event"]
    assert seen
    for event in seen:
        image = cv2.imdecode(np.frombuffer(b64decode(event["best"]["image"]), np.uint8), 1)
        assert image.shape == (SIZE[1], SIZE[0], 3)
        x1, y1, x2, y2 = event["best"]["box"]
        plate = image[int(y1) + 8 : int(y2) - 8, int(x1) + 30 : int(x2) - 30]
        assert abs(float(plate.mean()) - 44) < 10
    assert "image" not in lines[-1]["events"][0]["best"]


def test_plates_without_a_text_give_events_if_asked_for(
    client: httpx.Client, tmp_path: Path
) -> None:
    content = write_video(tmp_path / "c.mp4", passing(TEXTS[UNSURE])).read_bytes()
    assert lines_of(send(client, content))[-1]["events"] == []
    (event,) = lines_of(send(client, content, params={"unread": True}))[-1]["events"]
    assert event["plate"] is None
    assert event["reason"] == "unreadable"


def test_a_clip_that_is_cut_off_is_read_with_a_warning(
    client: httpx.Client, tmp_path: Path
) -> None:
    frames = [*passing("ZH123456"), *[empty()] * 100]
    content = write_video(tmp_path / "c.avi", frames, codec="MJPG").read_bytes()
    last = lines_of(send(client, content[: len(content) // 2]))[-1]
    assert [event["plate"] for event in last["events"]] == ["ZH123456"]
    assert all("/proc" not in text for text in last["warnings"])


# Refusals


def png() -> bytes:
    return cv2.imencode(".png", scene())[1].tobytes()


PLAY_LIST = """#EXTM3U
#EXT-X-TARGETDURATION:9
#EXTINF:9.0,
file:///{path}
#EXT-X-ENDLIST
"""


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        pytest.param(b"", 400, "no_file", id="nothing"),
        pytest.param(b"no video at all", 415, "unsupported_format", id="text"),
        pytest.param(png(), 415, "unsupported_format", id="png"),
        pytest.param(
            cv2.imencode(".jpg", scene())[1].tobytes(), 415, "unsupported_format", id="jpeg"
        ),
        pytest.param(os.urandom(5000), 415, "unsupported_format", id="noise"),
    ],
)
def test_what_is_no_video_is_refused(
    client: httpx.Client, content: bytes, status: int, code: str
) -> None:
    for response in (send(client, content), client.post("/v1/events", content=content)):
        found = error_of(response)
        assert found[:2] == (status, code)
        assert "/proc" not in response.text


def test_a_clip_without_frames_is_refused(client: httpx.Client, clip: bytes) -> None:
    """All of its tables, and nothing of what they point to."""
    start = clip.index(b"mdat") + 4
    end = clip.index(b"moov") - 4
    found = error_of(send(client, clip[:start] + bytes(end - start) + clip[end:]))
    assert found in {(422, "damaged_clip", None), (415, "unsupported_format", "formats")}


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_a_play_list_opens_no_other_file(
    client: httpx.Client, clip: bytes, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(clip)
    text = PLAY_LIST.format(path=path) if kind == "hls" else f"ffconcat version 1.0\nfile {path}\n"
    assert error_of(send(client, text.encode())) == (415, "unsupported_format", "formats")
    # FFmpeg is told so, and does not just fail for another reason.
    options = DECODER["OPENCV_FFMPEG_CAPTURE_OPTIONS"].split("|")
    assert "protocol_whitelist;file" in options


def test_other_bodies_are_refused(client: httpx.Client, clip: bytes) -> None:
    wrong = client.post("/v1/events", content=clip, headers={"Content-Type": "image/png"})
    assert error_of(wrong) == (415, "unsupported_media_type", None)
    packed = client.post("/v1/events", content=clip, headers={"Content-Encoding": "gzip"})
    assert error_of(packed) == (415, "unsupported_encoding", None)
    files = [("file", ("a.mp4", clip)), ("file", ("b.mp4", clip))]
    assert error_of(client.post("/v1/events", files=files)) == (413, "too_many_files", None)
    assert client.get("/v1/events").status_code == 405


def test_limits_of_size_length_and_frames(folder: Path, clip: bytes, tmp_path: Path) -> None:
    with patient(folder, max_clip_mib=0.02, max_clip_s=2.5) as client:
        assert len(clip) < 0.02 * 2**20
        assert error_of(send(client, clip)) == (413, "clip_too_long", "max_clip_s")
        large = clip + bytes(20_000)
        assert error_of(send(client, large)) == (413, "body_too_large", "max_clip_mib")
        chunks = (large[at : at + 1000] for at in range(0, len(large), 1000))
        response = client.post("/v1/events", content=chunks)
        assert error_of(response) == (413, "body_too_large", "max_clip_mib")
        # Of raw MJPEG the length is not known before its end.
        frames = [cv2.imencode(".jpg", each)[1].tobytes() for each in [empty()] * 100]
        raw = b"".join(frames)
        assert len(raw) < 2**20
    with patient(folder, max_clip_s=2.5) as client:
        last = lines_of(send(client, raw, "raw.mjpeg"))[-1]
        assert last["type"] == "error"
        assert (last["error"]["code"], last["error"]["limit"]) == ("clip_too_long", "max_clip_s")
    with patient(folder, max_pixels=SIZE[0] * SIZE[1] - 1) as client:
        assert error_of(send(client, clip)) == (413, "frames_too_large", "max_pixels")
    with patient(folder, max_side=SIZE[0] - 1) as client:
        assert error_of(send(client, clip)) == (413, "frames_too_large", "max_side")


def test_keys_and_rates_count_for_clips(folder: Path, clip: bytes, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", "open-sesame")
    with patient(folder, api_keys=keys, rate=0.01, burst=3) as client:
        assert error_of(send(client, clip)) == (401, "unauthorized", None)
        headers = {"X-API-Key": "open-sesame"}
        # A clip of three seconds counts as three images.
        assert lines_of(send(client, clip, headers=headers))[-1]["type"] == "result"
        refused = send(client, clip, headers=headers)
        assert error_of(refused) == (429, "rate_limited", "rate")
        assert int(refused.headers["Retry-After"]) > 0


def test_a_server_may_read_no_clips(
    folder: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patient(folder, max_clips=0) as client:
        assert error_of(send(client, clip)) == (501, "clips_off", "max_clips")
    with patient(folder) as client:
        monkeypatch.setattr(clips.importlib.util, "find_spec", lambda _: None)
        response = send(client, clip)
        assert error_of(response) == (501, "clips_off", "max_clips")
        assert "SciPy is not installed" in response.text


def test_without_room_for_the_file_it_is_said(
    client: httpx.Client, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clips, "TemporaryFile", full)
    response = send(client, clip)
    assert error_of(response) == (503, "no_space", None)
    assert "Retry-After" in response.headers


def test_a_body_that_does_not_come_is_not_waited_for(folder: Path) -> None:
    with patient(folder, deadline_s=1) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=60) as connection:
            head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            connection.sendall(head + bytes(100))
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


# Work


def test_a_clip_has_the_lowest_priority_and_no_secrets(
    folder: Path, long_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATES_FEEDBACK", "")
    with (
        patient(folder) as client,
        client.stream("POST", "/v1/events", content=long_clip) as response,
    ):
        lines = response.iter_lines()
        while json.loads(next(lines)).get("second", 0) < 1:
            pass
        (child,) = children()
        assert child.nice() == 19
        assert not [name for name in child.environ() if name.startswith("PLATES_")]
        assert not [word for word in child.cmdline() if "body" in word]
        # Images are read meanwhile.
        image = cv2.imencode(".png", scene("GE65432"))[1].tobytes()
        answer = client.post("/predict", files={"file": ("x.png", image)})
        assert answer.json()["plate"] == "GE65432"
        assert client.server.engine.pending == 0  # type: ignore[attr-defined]
    wait_until(lambda: not children())


def test_who_leaves_ends_the_work(client: httpx.Client, long_clip: bytes) -> None:
    before = outcomes(client).get("gone", 0)
    with client.stream("POST", "/v1/events", content=long_clip) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["type"] == "progress"
        assert len(children()) == 1
    wait_until(lambda: not children())
    wait_until(lambda: outcomes(client).get("gone", 0) == before + 1)


def outcomes(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {
        line.split('"')[1]: float(line.split()[-1])
        for line in lines
        if line.startswith("plates_clips_total{")
    }


def test_clips_wait_for_each_other_and_too_many_are_refused(
    folder: Path, clip: bytes, long_clip: bytes
) -> None:
    with (
        patient(folder, max_clips=2) as client,
        client.stream("POST", "/v1/events", content=long_clip) as first,
    ):
        lines_of_first = first.iter_lines()
        assert json.loads(next(lines_of_first))["type"] == "progress"
        with client.stream("POST", "/v1/events", content=clip) as second:
            lines = (json.loads(line) for line in second.iter_lines())
            assert [next(lines)["type"], next(lines)["type"]] == ["progress", "waiting"]
            # What is no video is said before the turn comes; but here there is no room at all.
            third = send(client, clip)
            assert error_of(third) == (503, "clips_full", "max_clips")
            assert int(third.headers["Retry-After"]) >= 1
            first.close()
            assert [line["type"] for line in lines][-1] == "result"
        assert lines_of(send(client, clip))[-1]["type"] == "result"


def test_a_deadline_ends_a_clip(folder: Path, long_clip: bytes) -> None:
    with patient(folder, clip_deadline_s=4) as client:
        response = client.post("/v1/events", content=long_clip)
        if response.status_code == 503:
            # Where much else runs, the process has not even begun.
            assert error_of(response)[1] == "deadline"
        else:
            last = lines_of(response)[-1]
            assert last["type"] == "error"
            assert last["error"]["limit"] == "clip_deadline_s"
        wait_until(lambda: not children())
        assert client.get("/livez").status_code == 200


def test_a_process_that_crashes_is_no_crash_of_the_server(
    client: httpx.Client, clip: bytes, long_clip: bytes
) -> None:
    with client.stream("POST", "/v1/events", content=long_clip) as response:
        lines = (json.loads(line) for line in response.iter_lines())
        next(lines)
        (child,) = children()
        child.kill()
        last = list(lines)[-1]
    assert (last["type"], last["error"]["code"]) == ("error", "damaged_clip")
    wait_until(lambda: outcomes(client).get("failed", 0) >= 1)
    assert lines_of(send(client, clip))[-1]["type"] == "result"


def test_nothing_is_left_of_a_clip(
    client: httpx.Client, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = psutil.Process().num_fds()
    send(client, clip)
    send(client, b"no video")
    with client.stream("POST", "/v1/events", content=clip):
        pass
    wait_until(lambda: not children())
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: psutil.Process().num_fds() <= before + 2)


@pytest.mark.slow
def test_a_server_that_is_stopped_says_so(folder: Path, long_clip: bytes) -> None:
    with (
        # A quarter of it is left to tell the sender, which a busy machine needs.
        process("--model", str(folder), "--grace-s", "12") as server,
        httpx.Client(base_url=server.url, timeout=100) as client,
        client.stream("POST", "/v1/events", content=long_clip) as response,
    ):
        lines = (json.loads(line) for line in response.iter_lines())
        assert next(lines)["type"] == "progress"
        began = time.monotonic()
        server.process.terminate()
        last = list(lines)[-1]
        assert (last["type"], last["error"]["code"]) == ("error", "draining")
        assert server.process.wait(30) is not None
        assert time.monotonic() - began < 20


def test_the_interface_is_described(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    post = description["paths"]["/v1/events"]["post"]
    content = post["responses"]["200"]["content"]
    assert list(content) == ["application/x-ndjson"]
    assert set(post["requestBody"]["content"]) >= {"multipart/form-data", "video/mp4"}
    assert {"413", "415", "422", "501", "503"} <= set(post["responses"])
    assert {each["name"] for each in post["parameters"]} == {"images", "unread"}
