"""Live sources: the newest frame only, time-outs, and reconnection with back-off.

A thread takes frames as they come and keeps the newest, so that whoever reads them slowly misses some and
never falls behind. OpenCV's reads may block for ever in spite of their time-outs (opencv/opencv#22677): a
thread that is silent for twice as long is given up, and another one connects anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ..core.images import Pixels
from .snapshots import HttpClient, SnapshotCamera
from .sources import EndingError, Frame, Report, SourceError, without_credentials

STALLED = 10.0
"""Seconds without a frame after which a connection is closed."""
_HANGING = 2 * STALLED
"""Seconds without a frame after which a thread counts as blocked for ever."""
BACK_OFF = (1.0, 30.0)
"""Seconds until the first reconnection, and at most; they double in between."""
_TICK = 0.5
"""Seconds after which a wait for a frame is interrupted, so that vehicles go while there are none."""
_STEADY = 30.0
"""Seconds that a connection must last for the next failure to be the first again."""
_MOST_THREADS = 4
"""Number of threads that may hang in OpenCV at once, each of which holds some memory."""


class Camera(Protocol):
    """An open connection."""

    def read(self) -> Pixels:
        """Wait for the next frame ``(H, W, 3)`` BGR.

        Raises:
            SourceError: There is none any more.
        """
        ...

    def close(self) -> None: ...


class CaptureCamera:
    """A stream or device that OpenCV reads.

    Args:
        location: URL, or path of a device.
        backend: OpenCV's backend.
        parameters: Parameters of OpenCV for opening it.

    Raises:
        SourceError: It cannot be opened.
    """

    def __init__(self, location: str, backend: int, parameters: list[int]) -> None:
        self._shown = without_credentials(location)
        self._capture = cv2.VideoCapture(location, backend, parameters)
        if not self._capture.isOpened():
            raise SourceError(f"{self._shown}: cannot be opened")

    def read(self) -> Pixels:
        done, image = self._capture.read()
        if not done:
            raise SourceError(f"{self._shown}: gives no more frames")
        return np.asarray(image, np.uint8)

    def close(self) -> None:
        self._capture.release()


def connect(location: str, fps: float) -> Camera:
    """Connect to a camera.

    Args:
        location: URL of a stream or of a snapshot, or path of a device.
        fps: Frames a second that snapshots are polled with.

    Raises:
        EndingError: The URL holds a video file.
        SourceError: It cannot be reached.
    """
    if location.startswith("/dev/"):
        if not Path(location).exists():
            raise SourceError(f"{location}: there is no such device")
        return CaptureCamera(location, cv2.CAP_V4L2, [])
    if location.lower().startswith(("http://", "https://")):
        client = HttpClient(location)
        if client.kind() == "snapshot":
            return SnapshotCamera(client, 1 / fps)
    limit = round(STALLED * 1000)
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return CaptureCamera(location, cv2.CAP_FFMPEG, parameters)


class _Connection:
    """A thread that connects, keeps the newest frame, and reconnects, until it is given up."""

    def __init__(self, open_camera: Callable[[], Camera], report: Report) -> None:
        self._open_camera, self._report = open_camera, report
        self._changed = threading.Condition()
        self._newest: tuple[float, Pixels] | None = None
        self._stop = threading.Event()
        self.received = 0
        self.reconnections = 0
        self.heard = time.monotonic()
        """When the last frame came, or the last attempt to connect began."""
        self.is_waiting = False
        """Whether it waits before it connects again."""
        self.error: EndingError | None = None
        """Why it does not connect again."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def give_up(self) -> None:
        """Tell the thread to end, whenever it can."""
        self._stop.set()

    def take(self, timeout: float) -> tuple[float, Pixels] | None:
        """Return the newest frame that has not been taken, and when it came; None without any."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, timeout)
            newest, self._newest = self._newest, None
        return newest

    def _run(self) -> None:
        wait, is_lost = BACK_OFF[0], False
        while not self._stop.is_set():
            began = self.heard = time.monotonic()
            self.is_waiting = False
            try:
                camera = self._open_camera()
                try:
                    while not self._stop.is_set():
                        image = camera.read()
                        if is_lost:
                            self._report("connected again")
                            is_lost = False
                            self.reconnections += 1
                        self._put(image)
                finally:
                    camera.close()
            except EndingError as error:
                self.error = error
                return
            except SourceError as error:
                failure = str(error)
            except Exception as error:
                # OpenCV raises errors of its own; a camera must not end the program.
                failure = f"{type(error).__name__}: {error}"
            else:
                return
            if self._stop.is_set():
                return
            self.is_waiting = True
            if not is_lost:
                self._report(f"lost, reconnecting ({failure})")
            is_lost = True
            wait = BACK_OFF[0] if time.monotonic() - began > _STEADY else wait
            self._stop.wait(wait)
            wait = min(2 * wait, BACK_OFF[1])

    def _put(self, image: Pixels) -> None:
        self.heard = time.monotonic()
        with self._changed:
            self._newest = (self.heard, image)
            self.received += 1
            self._changed.notify_all()


class LiveSource:
    """A camera.

    Args:
        location: URL or device.
        report: Takes messages: lost, connected again, stalled.
        open_camera: Function that connects; by default ``connect`` with the location.
    """

    is_live = True
    duration: float | None = None

    def __init__(
        self,
        location: str,
        report: Report = lambda _: None,
        open_camera: Callable[[float], Camera] | None = None,
    ) -> None:
        shown = without_credentials(location)
        # OpenCV names what it cannot open.
        self._report: Report = lambda text: report(text.replace(location, shown))
        self._open = open_camera or (lambda fps: connect(location, fps))
        self.dropped = 0
        self.reconnections = 0

    def frames(self, fps: float, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield the newest frame at most ``fps`` times a second, None after a while without any.

        Raises:
            EndingError: The URL holds a video file.
        """
        start = time.monotonic()
        connection = _Connection(lambda: self._open(fps), self._report)
        hanging: list[_Connection] = []
        due = start
        try:
            while not stop.is_set():
                late = time.monotonic() - due
                if late < 0:
                    stop.wait(-late)
                    continue
                received = connection.received
                newest = connection.take(_TICK)
                if newest is not None:
                    came, image = newest
                    begin = time.monotonic()
                    yield Frame(came - start, image)
                    now = time.monotonic()
                    # Moments that have passed meanwhile while frames came; the last one is served now.
                    missed = int((now - begin) * fps) - 1
                    if missed > 0:
                        self.dropped += min(missed, connection.received - received)
                    due = max(due + 1 / fps, now)
                    continue
                if connection.error is not None:
                    raise connection.error
                yield None
                silent = time.monotonic() - connection.heard
                if not connection.is_waiting and silent > _HANGING:
                    hanging = [each for each in hanging if each.thread.is_alive()]
                    if len(hanging) < _MOST_THREADS:
                        self._report(f"hangs for {silent:.0f} s, connecting anew")
                        connection.give_up()
                        hanging.append(connection)
                        self.reconnections += connection.reconnections + 1
                        connection = _Connection(lambda: self._open(fps), self._report)
        finally:
            connection.give_up()
            self.reconnections += connection.reconnections
            # A thread that Python finds in OpenCV when it ends makes it abort.
            connection.thread.join(_TICK)
