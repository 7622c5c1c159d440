"""The command that watches videos and cameras, as people call it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from src.video.settings import Settings, SettingsError
from src.watch.__main__ import check_names, main, named
from tests.bundles import write_bundle
from tests.video.cameras import http_camera
from tests.video.footage import empty, frame_with, passing, write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("watch") / "bundle")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "one.mp4", passing("ZH123456"))


def run(
    capfd: pytest.CaptureFixture[str], model: Path, *arguments: str | Path
) -> tuple[int, list[str], str]:
    status = main([*map(str, arguments), "--model", str(model)])
    output, errors = capfd.readouterr()
    return status, output.splitlines(), errors


def test_events_are_lines_for_people(
    model: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines, errors = run(capfd, model, f"gate={clip}")
    assert status == 0
    (line,) = lines
    assert line.startswith("gate: ZH 123456 (")
    assert line.endswith(" s, right")
    assert "gate: events: 1, frames:" in errors


def test_events_are_json_objects(
    model: Path, clip: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, lines, _ = run(capfd, model, f"gate={clip}", "--json", "--images", tmp_path / "images")
    (event,) = map(json.loads, lines)
    assert list(event) == [
        "id", "revision", "source", "plate", "canton", "number", "colour", "format", "reason",
        "confidence", "first", "last", "frames", "reads", "direction", "alternatives", "best",
    ]  # fmt: skip
    assert (event["source"], event["plate"], event["direction"]) == ("gate", "ZH123456", "right")
    (image,) = (tmp_path / "images").iterdir()
    assert event["best"]["image"] == str(image)
    assert cv2.imread(str(image)).shape == (240, 320, 3)


def test_without_images_there_is_none(
    model: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, lines, _ = run(capfd, model, clip, "--json")
    assert "image" not in json.loads(lines[0])["best"]


def test_a_file_of_sources_has_settings_of_each(
    model: Path, clip: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(
        f'[upper]\nsource = "{clip}"\nregions = [[0, 0, 320, 60]]\n[lower]\nsource = "{clip}"\n'
    )
    status, lines, _ = run(capfd, model, "--sources", path)
    assert status == 0
    assert [line.partition(":")[0] for line in lines] == ["lower"]


def test_errors_name_the_source_and_the_others_are_watched(
    model: Path, clip: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, lines, errors = run(capfd, model, f"a={tmp_path / 'none.mp4'}", f"b={clip}")
    assert status == 1
    assert len(lines) == 1
    assert f"error: a: {tmp_path / 'none.mp4'}: there is no such file" in errors


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "there is nothing to watch"),
        (["a=x.mp4", "a=y.mp4"], "two sources are called a"),
        (["x.mp4", "--fps", "0"], "--fps"),
        (["x.mp4", "--region", "1,2,3"], "at least three corners"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], what: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines, errors = run(capfd, model, *arguments)
    assert (status, lines) == (1, [])
    assert errors.startswith("error: ")
    assert what in errors


def test_names_are_those_given_or_the_location_without_its_password() -> None:
    settings = Settings()
    specs = named(
        ["gate=rtsp://u:p@host/live", "rtsp://u:p@host/live?x=1", "clips/a.mp4"], settings
    )
    assert [spec.name for spec in specs] == ["gate", "rtsp://host/live", "clips/a.mp4"]
    assert specs[0].location == "rtsp://u:p@host/live"
    assert named(["a\udcff.mp4"], settings)[0].name == "a\ufffd.mp4"
    check_names(specs)
    with pytest.raises(SettingsError):
        check_names([*specs, specs[0]])


def start(model: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "src.watch", *arguments, "--json", "--model", str(model)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_gives_the_events_of_vehicles_that_are_still_there(
    number: signal.Signals, status: int, model: Path
) -> None:
    with http_camera([frame_with(("BE1", 100, 100, 96))]) as camera:
        process = start(model, f"gate=http://{camera.host}/snapshot", "--delay", "600")
        try:
            deadline = time.monotonic() + 100
            while len(camera.requests) < 12 and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(number)
            output, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == status, errors
    (event,) = map(json.loads, output.splitlines())
    assert event["plate"] == "BE1"
    assert event["first_at"].endswith("Z")
    assert event["first_at"] <= event["last_at"]


def test_a_camera_that_is_not_there_is_reported_and_tried_again(model: Path) -> None:
    with http_camera([empty()]) as camera:
        camera.is_down.set()
        process = start(model, f"gate=http://{camera.host}/snapshot")
        try:
            deadline = time.monotonic() + 100
            while len(camera.requests) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert len(camera.requests) >= 2
    assert errors.count("gate: lost, reconnecting (http://127.0.0.1") == 1
    assert process.returncode == 0


def watched_memory(model: Path, seconds: float) -> list[int]:
    """Resident kilobytes of the command, sampled while a camera shows a vehicle after the other."""
    texts = ("ZH123456", "BE1", "GE65432", "TI1234567")
    frames: list[Any] = []
    for text in texts:
        frames += passing(text, 20, before=20)
    with http_camera(frames) as camera:
        process = start(model, f"gate=http://{camera.host}/mjpeg")
        try:
            sizes = []
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(2)
                status = Path(f"/proc/{process.pid}/status").read_text()
                sizes.append(int(status.split("VmRSS:")[1].split()[0]))
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.count("\n") >= 4
    return sizes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_flat_for_five_minutes(model: Path) -> None:
    sizes = watched_memory(model, 300)
    quarter = len(sizes) // 4
    # The first quarter fills caches and the allocator's arenas.
    assert max(sizes[-quarter:]) < 1.05 * max(sizes[quarter : 2 * quarter])
