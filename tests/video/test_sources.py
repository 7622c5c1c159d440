"""Frames of files and folders by time, and messages about what cannot be read."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.video.sources import (
    FrameFolder,
    SourceError,
    VideoFile,
    VideoSource,
    is_video,
    without_credentials,
)
from tests.video.footage import Pixels, empty, write_video


def video(path: Path | str) -> VideoFile:
    return VideoFile(str(path), 10.0)


def times(source: VideoSource, fps: float) -> list[float]:
    return [round(frame.time, 3) for frame in source.frames(fps, threading.Event()) if frame]


def numbered(count: int) -> list[Pixels]:
    """Frames that are all different in their grey."""
    return [np.full_like(empty(), 8 * i) for i in range(count)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mp4v"), ("a.mkv", "FFV1"), ("a.avi", "MJPG"), ("a.mjpeg", "MJPG")],
)
def test_frames_come_by_time(name: str, codec: str, tmp_path: Path) -> None:
    path = str(write_video(tmp_path / name, numbered(30), 10.0, codec))
    assert times(video(path), 100) == pytest.approx([i / 10 for i in range(30)], abs=0.002)
    # The first frame at or after each moment of a grid.
    assert times(video(path), 4) == pytest.approx(
        [0, 0.3, 0.5, 0.8, 1.0, 1.3, 1.5, 1.8, 2.0, 2.3, 2.5, 2.8], abs=0.002
    )
    frames = [frame for frame in video(path).frames(5, threading.Event()) if frame]
    greys = [float(frame.image.mean()) for frame in frames]
    assert greys == pytest.approx([16 * i for i in range(15)], abs=4)


def test_the_mean_rate_is_as_asked_for(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mkv", numbered(30) * 5, 25.0, "FFV1"))
    assert len(times(video(path), 8)) == 6 * 8
    source = VideoFile(path)
    assert source.duration == pytest.approx(6.0, abs=0.1)


def test_it_ends_when_asked_to(tmp_path: Path) -> None:
    source = VideoFile(str(write_video(tmp_path / "a.mkv", numbered(30), 10.0, "FFV1")))
    stop, count = threading.Event(), 0
    for _ in source.frames(10, stop):
        count += 1
        stop.set()
    assert count == 1


def test_what_is_no_video_is_explained(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("nothing to see")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)))
    for name, what in (
        ("none.mp4", "there is no such file"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be read as a video"),
        ("noise.mp4", "cannot be read as a video"),
    ):
        with pytest.raises(SourceError, match=rf"{name}: {what}"):
            VideoFile(str(tmp_path / name))


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_play_list_opens_no_other_file(text: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", numbered(30), 10.0, "mp4v")
    play_list = tmp_path / "list.mp4"
    play_list.write_text(text.format(video.name))
    with pytest.raises(SourceError, match=r"list\.mp4: cannot be read as a video.*It is text"):
        VideoFile(str(play_list))


def test_a_truncated_file_is_read_and_reported(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", numbered(30) * 3, 10.0, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    said: list[str] = []
    found = times(VideoFile(str(path), report=said.append), 10)
    assert 10 < len(found) < 60
    assert len(said) == 1
    assert "truncated or damaged" in said[0]
    # One that was stopped is not.
    said.clear()
    stop = threading.Event()
    for _ in VideoFile(str(path), report=said.append).frames(10, stop):
        stop.set()
    assert not said


def test_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"frame{i}.png"), numbered(12)[i])
    (tmp_path / "frame3.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("nobody's")
    said: list[str] = []
    source = FrameFolder(str(tmp_path), 10.0, said.append)
    frames = [frame for frame in source.frames(10, threading.Event()) if frame]
    assert [round(frame.time, 3) for frame in frames] == [i / 10 for i in range(12) if i != 3]
    assert [int(frame.image.mean()) for frame in frames] == [8 * i for i in range(12) if i != 3]
    assert len(said) == 1
    assert "frame3.png" in said[0]
    assert times(FrameFolder(str(tmp_path), 10.0), 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="has no images"):
        FrameFolder(str(tmp_path / "none"), 10.0)


def test_colours_are_as_in_the_file(tmp_path: Path) -> None:
    red = np.zeros((60, 80, 3), np.uint8)
    red[..., 2] = 200
    cv2.imwrite(str(tmp_path / "0.png"), red)
    (frame,) = FrameFolder(str(tmp_path), 10.0).frames(10, threading.Event())
    assert frame is not None
    assert frame.image[0, 0].tolist() == [0, 0, 200]


def test_passwords_stay_out_of_names() -> None:
    shown = without_credentials("rtsp://me:s3cret@camera.example:554/live?token=s3cret")
    assert shown == "rtsp://camera.example:554/live"
    assert without_credentials("a@b/clip.mp4") == "a@b/clip.mp4"


def test_suffixes_tell_videos() -> None:
    assert is_video("a/B.MP4")
    assert not is_video("a/b.jpg")
