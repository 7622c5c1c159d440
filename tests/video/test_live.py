"""Live sources: the newest frame, what is lost and found again, and what hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from src.video import live
from src.video.live import LiveSource
from src.video.snapshots import HttpClient
from src.video.sources import EndingError, Frame, SourceError
from tests.video.cameras import PASSWORD, USER, http_camera
from tests.video.footage import Pixels, empty


class FakeCamera:
    """A camera whose frames hold their number.

    Args:
        rate: Frames a second.
        last: Number of frames after which it is lost.
    """

    count = 0

    def __init__(self, rate: float, last: int | None = None) -> None:
        self._rate, self._left = rate, last

    def read(self) -> Pixels:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise SourceError("the cable is out")
        time.sleep(1 / self._rate)
        FakeCamera.count += 1
        return np.full((2, 2, 3), FakeCamera.count % 256, np.uint8)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCamera, "count", 0)
    monkeypatch.setattr(live, "BACK_OFF", (0.05, 0.2))


def taken(
    source: LiveSource, fps: float, until: Callable[[list[Frame]], bool], slow: float = 0.0
) -> list[Frame]:
    """Frames until a condition holds, at most for half a minute."""
    stop, frames = threading.Event(), []
    begin = time.monotonic()
    for frame in source.frames(fps, stop):
        if frame is not None:
            frames.append(frame)
            time.sleep(slow)
        if until(frames) or time.monotonic() - begin > 30:
            stop.set()
    return frames


def test_a_slow_reader_gets_the_newest_frame_and_counts_what_it_dropped() -> None:
    source = LiveSource("fake", open_camera=lambda _: FakeCamera(50))
    frames = taken(source, 20, lambda frames: len(frames) == 5, slow=0.5)
    numbers = [int(frame.image[0, 0, 0]) for frame in frames]
    assert FakeCamera.count - numbers[-1] < 60
    # Half a second is ten moments, nine of which are missed.
    assert all(later - earlier > 3 for earlier, later in pairwise(numbers[1:]))
    assert source.dropped >= 4 * 5
    assert all(later.time > earlier.time for earlier, later in pairwise(frames))


def test_a_fast_reader_drops_nothing_and_is_not_faster_than_asked_for() -> None:
    source = LiveSource("fake", open_camera=lambda _: FakeCamera(100))
    begin = time.monotonic()
    frames = taken(source, 4, lambda frames: len(frames) == 5)
    assert time.monotonic() - begin >= 0.9
    assert len(frames) == 5
    assert source.dropped <= 1


def test_a_lost_camera_is_connected_again_and_reported_once() -> None:
    said: list[str] = []
    attempts = iter([FakeCamera(50, 3), None, None, None, FakeCamera(50)])

    def open_camera(_: float) -> FakeCamera:
        camera = next(attempts)
        if camera is None:
            raise SourceError("cannot be reached")
        return camera

    source = LiveSource("fake", said.append, open_camera)
    taken(source, 50, lambda frames: bool(frames) and int(frames[-1].image[0, 0, 0]) > 8)
    assert said == ["lost, reconnecting (the cable is out)", "connected again"]
    assert source.reconnections == 1


def test_back_off_doubles_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is not None:
                waits.append(timeout)
            return len(waits) >= 5

    def fails() -> FakeCamera:
        raise SourceError("no")

    connection = live._Connection.__new__(live._Connection)
    connection._open_camera, connection._report = fails, lambda _: None
    connection._stop = Stop()
    connection.reconnections = 0
    monkeypatch.setattr(Stop, "is_set", lambda self: len(waits) >= 5)
    connection._run()
    assert waits == [0.05, 0.1, 0.2, 0.2, 0.2]


def test_a_camera_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_HANGING", 0.3)
    monkeypatch.setattr(live, "_TICK", 0.1)
    released, said = threading.Event(), []

    class Hanging(FakeCamera):
        def read(self) -> Pixels:
            released.wait(60)
            raise SourceError("over")

    cameras = iter([Hanging(1), FakeCamera(50)])
    source = LiveSource("fake", said.append, lambda _: next(cameras))
    frames = taken(source, 20, lambda frames: len(frames) >= 2)
    released.set()
    assert len(frames) >= 2
    assert len(said) == 1
    assert said[0].startswith("hangs for")
    assert source.reconnections == 1


def test_without_frames_it_says_so_and_can_be_stopped() -> None:
    def never(_: float) -> FakeCamera:
        raise SourceError("cannot be reached")

    stop = threading.Event()
    waiting: Iterator[Frame | None] = LiveSource("fake", open_camera=never).frames(8, stop)
    assert next(waiting) is None
    stop.set()
    assert list(waiting) == []


def test_snapshots_are_polled() -> None:
    with http_camera([empty()]) as camera:
        source = LiveSource(f"http://{camera.host}/snapshot")
        frames = taken(source, 5, lambda frames: len(frames) == 4)
        assert [frame.image.shape for frame in frames] == [(240, 320, 3)] * 4
        assert frames[-1].time - frames[0].time >= 0.5
        assert set(camera.requests) == {"/snapshot"}


def test_mjpeg_is_streamed() -> None:
    with http_camera([empty()]) as camera:
        source = LiveSource(f"http://{camera.host}/mjpeg")
        frames = taken(source, 8, lambda frames: len(frames) == 4)
        assert [frame.image.shape for frame in frames] == [(240, 320, 3)] * 4
        # One request tells what it is, one streams it.
        assert camera.requests == ["/mjpeg"] * 2


def test_a_video_file_on_a_server_is_no_camera() -> None:
    """It would be watched again and again."""
    with http_camera([empty()]) as camera:
        frames = LiveSource(f"http://{camera.host}/clip.mp4").frames(8, threading.Event())
        with pytest.raises(EndingError, match="download it"):
            list(frames)
        assert camera.requests == ["/clip.mp4"]


def test_a_server_that_comes_back_is_found_again() -> None:
    said: list[str] = []
    with http_camera([empty()]) as camera:
        source = LiveSource(f"http://{camera.host}/snapshot", said.append)
        count = 0

        def until(frames: list[Frame]) -> bool:
            nonlocal count
            if len(frames) == 2:
                camera.is_down.set()
            if said and camera.is_down.is_set():
                count = len(frames)
                camera.is_down.clear()
            return count > 0 and len(frames) > count

        assert taken(source, 10, until)
    assert said[0].startswith("lost, reconnecting (http://127.0.0.1")
    assert "503" in said[0]
    assert said[1] == "connected again"


def test_passwords_are_sent_and_not_shown() -> None:
    quoted = PASSWORD.replace("@", "%40")
    with http_camera([empty()]) as camera:
        assert HttpClient(f"http://{USER}:{quoted}@{camera.host}/locked").image().shape == (
            240,
            320,
            3,
        )
        for url in (f"http://{USER}:wrong@{camera.host}/locked", f"http://{camera.host}/locked"):
            with pytest.raises(SourceError, match="401") as error:
                HttpClient(url).image()
            assert "wrong" not in str(error.value)
            assert USER not in str(error.value)


def test_what_is_no_image_is_said() -> None:
    with http_camera([empty()]) as camera:
        camera.images = [b"no image"]
        with pytest.raises(SourceError, match="the answer is no image"):
            HttpClient(f"http://{camera.host}/snapshot").image()
    with pytest.raises(SourceError, match="cannot be reached"):
        HttpClient(f"http://{camera.host}/snapshot").image()


def test_a_camera_that_cannot_be_opened_does_not_show_its_password(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []
    stop = threading.Event()
    frames = LiveSource("rtsp://me:s3cret@127.0.0.1:9/live", said.append).frames(8, stop)
    begin = time.monotonic()
    while not said and time.monotonic() - begin < 60:
        assert next(frames) is None
    stop.set()
    assert said == ["lost, reconnecting (rtsp://127.0.0.1:9/live: cannot be opened)"]
    output = capfd.readouterr()
    assert "s3cret" not in output.out + output.err
