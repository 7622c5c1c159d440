"""Videos with their plates covered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from src.blur.videos import BEYOND, Way, blurred_video
from src.core.images import Pixels
from src.inference.reader import Plate
from src.video.sources import SourceError
from src.video.vote import Sighting
from tests.video.footage import empty, passing, plate, write_video


def way(*places: tuple[float, float]) -> Way:
    found = Way()
    for time, x in places:
        found.add(Sighting(time, plate(at=(x, 100))))
    return found


def middle(places: list[np.ndarray]) -> float:
    return float(places[0][:, 0].mean())


def test_a_way_has_no_gaps_and_goes_on_at_both_ends() -> None:
    found = way((1.0, 100), (1.2, 120), (2.0, 200))
    assert middle(found.at(1.1)) == pytest.approx(110)
    assert middle(found.at(1.6)) == pytest.approx(160)
    assert middle(found.at(0.8)) == pytest.approx(80)
    assert middle(found.at(2.4)) == pytest.approx(240)
    assert not found.at(1.0 - BEYOND - 0.01)
    assert not found.at(2.0 + BEYOND + 0.01)


def test_a_sighting_of_something_else_uncovers_nothing() -> None:
    found = way((1.0, 100), (1.1, 110), (1.2, 300), (1.3, 130), (1.4, 140))
    for time in np.linspace(1.0, 1.4, 41):
        places = [middle([place]) for place in found.at(float(time))]
        assert min(abs(place - 100 * time) for place in places) < 1, time
    assert 300 in [middle([place]) for place in found.at(1.2)], "perhaps it is another plate"


def test_a_single_sighting_covers_its_place() -> None:
    assert middle(way((1.0, 100)).at(1.3)) == 100


def is_plate(image: Pixels) -> bool:
    """The frames of ``passing`` are grey but for the plate, which has ink."""
    return bool(image.min() < 60)


class Read:
    """Finds the plate of ``passing`` in every third frame that it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, image: Pixels) -> Sequence[Plate]:
        self.asked += 1
        columns = np.flatnonzero((image > 180).any(axis=(0, 2)))
        if self.asked % 3 or not len(columns):
            return []
        left, right = float(columns[0]), float(columns[-1] + 1)
        return [plate(at=((left + right) / 2, 112), width=96)]


def frames_of(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_the_whole_way_is_covered_though_it_was_found_now_and_then(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", passing("ZH123456", frames=30))
    shares: list[float] = []
    target = tmp_path / "b.mp4"
    count = blurred_video(str(source), target, Read(), "fill", progress=shares.append)
    before, after = frames_of(source), frames_of(target)
    assert count == 1
    assert len(before) == len(after) == 40
    assert sum(map(is_plate, before)) == 30
    assert sum(map(is_plate, after)) == 0
    # What is far from the plate stays.
    assert (
        max(np.abs(a[200:].astype(int) - b[200:]).max() for a, b in zip(before, after, strict=True))
        < 12
    )
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


def test_plates_that_read_the_same_are_all_covered(tmp_path: Path) -> None:
    """A poster beside the car, or a mirror image in a window, is a plate too."""
    frames = [empty() for _ in range(10)]
    for frame in frames:
        for x in (80, 240):
            frame[104:120, x - 20 : x + 20] = 20
    source, target = write_video(tmp_path / "a.mp4", frames), tmp_path / "b.mp4"
    both = [plate("ZH1", at=(x, 112), width=60, confidence=0.99) for x in (80, 240)]
    assert blurred_video(str(source), target, lambda _: both, "fill") == 2
    assert not any(map(is_plate, frames_of(target)))


def with_sound(path: Path, frames: Sequence[Pixels], **tags: str) -> Path:
    """A video with a tone."""
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        tone = np.sin(np.arange(8000 * len(frames) // 10) / 5).astype(np.float32)[None]
        for start in range(0, tone.shape[1], 1024):
            part = np.ascontiguousarray(tone[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
        container.mux(video.encode())
    return path


@pytest.mark.parametrize("keep", [False, True])
def test_sound_stays_and_metadata_if_asked(tmp_path: Path, keep: bool) -> None:
    source = with_sound(tmp_path / "a.mp4", [empty()] * 20, title="Yard", comment="place")
    target = tmp_path / "b.mp4"
    assert blurred_video(str(source), target, Read(), "fill", keep) == 0
    with av.open(str(source)) as before, av.open(str(target)) as after:
        packets = [
            [bytes(packet) for packet in container.demux(audio=0) if packet.size]
            for container in (before, after)
        ]
        assert ("title" in after.metadata) == keep
    assert packets[0] == packets[1]
    assert len(packets[0]) > 10


def test_times_of_frames_stay(tmp_path: Path) -> None:
    source, target = (
        write_video(tmp_path / "a.mp4", passing("ZH123456", frames=20)),
        tmp_path / "b.mkv",
    )
    blurred_video(str(source), target, Read(), "pixelate")
    times = []
    for path in (source, target):
        with av.open(str(path)) as container:
            times.append([frame.time for frame in container.decode(video=0)])
    np.testing.assert_allclose(times[1], times[0], atol=2e-3)


@pytest.mark.parametrize("content", [b"no video", b""])
def test_what_is_no_video_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.mp4"):
        blurred_video(str(tmp_path / "a.mp4"), tmp_path / "b.mp4", Read(), "fill")
