"""A camera that speaks RTSP: a server of Debian's GStreamer."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from src.inference.reader import PlateReader
from src.video.events import Event
from src.video.settings import Settings, SourceSpec
from src.video.watcher import Message, read_with, watch
from tests.bundles import write_bundle
from tests.video.footage import passing

SYSTEM_PYTHON = "/usr/bin/python3"
"""The Python that Debian's bindings of GStreamer are for."""
SERVER = Path(__file__).with_name("rtsp_server.py")
NEEDED = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    "Gst.init(None); assert Gst.ElementFactory.find('rtpjpegpay')"
)


def _has_server() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    done = subprocess.run([SYSTEM_PYTHON, "-c", NEEDED], capture_output=True, check=False)
    return done.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not _has_server(),
        reason="needs an RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
        "gstreamer1.0-plugins-good",
    ),
]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with the frames that the server repeats: one vehicle that passes."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(passing("ZH123456", 20, before=20)):
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


class Server:
    """The server, which can be ended and started again at the same address."""

    def __init__(self, frames: Path) -> None:
        self._frames, self._port = frames, "0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER), str(self._frames), "10", self._port],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("rtsp://"), "the server does not start"
        self._port = self.url.partition("127.0.0.1:")[2].partition("/")[0]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(frames: Path) -> Iterator[Server]:
    server = Server(frames)
    try:
        yield server
    finally:
        server.end()


def test_a_stream_gives_events_and_is_found_again_when_it_was_lost(
    server: Server, tmp_path: Path
) -> None:
    read = read_with(PlateReader.load(write_bundle(tmp_path / "bundle"), threads=1))
    stop, said, events = threading.Event(), [], []
    spec = SourceSpec("gate", server.url, Settings())
    deadline = time.monotonic() + 200

    def end_late() -> None:
        stop.wait(200)
        stop.set()

    threading.Thread(target=end_late, daemon=True).start()
    for result in watch([spec], read, stop):
        if isinstance(result, Message):
            said.append(result.text)
        else:
            assert isinstance(result, Event)
            events.append(result)
            # The same vehicle within a minute continues its event: this is the first one.
            server.end()
        if any(text.startswith("lost") for text in said) and server.process.poll() is not None:
            server.start()
        if "connected again" in said:
            stop.set()
    assert time.monotonic() < deadline, (said, events)
    assert [event.plate for event in events] == ["ZH123456"]
    assert events[0].first_at is not None
    assert said[0].startswith("lost, reconnecting (rtsp://127.0.0.1")
