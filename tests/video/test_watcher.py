"""From frames to events, with networks that know the answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.inference.reader import Plate, PlateReader
from src.video.events import Event
from src.video.settings import Region, Settings, SourceSpec
from src.video.sources import Frame, SourceError
from src.video.watcher import Message, ReadFrame, Watcher, Watching, read_with, watch
from tests.bundles import write_bundle
from tests.video.footage import SIZE, empty, frame_with, passing, plate, write_video


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> ReadFrame:
    return read_with(PlateReader.load(write_bundle(tmp_path_factory.mktemp("video")), threads=1))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two vehicles, one after the other."""
    frames = passing("ZH123456") + [empty()] * 15 + passing("GE65432", top=40)
    return write_video(tmp_path_factory.mktemp("clip") / "two.mp4", frames)


def events_of(spec: SourceSpec, read: ReadFrame) -> list[Event]:
    return list(Watching(spec, read, pytest.fail))


def test_a_clip_gives_an_event_for_each_vehicle(clip: Path, read: ReadFrame) -> None:
    first, second = events_of(SourceSpec("lane", str(clip), Settings()), read)
    assert (first.plate, second.plate) == ("ZH123456", "GE65432")
    assert first.source == "lane"
    assert first.direction == second.direction == "right"
    assert 0.4 < first.first < 0.8
    assert 2.0 < first.last < 2.7
    assert second.first > 4.5
    assert first.reads >= 10
    x1, _, x2, _ = first.best.box
    assert 90 < x2 - x1 < 102


def test_still_frames_are_not_read(clip: Path, read: ReadFrame) -> None:
    watching = Watching(SourceSpec("lane", str(clip), Settings(fps=10)), read, print)
    assert len(list(watching)) == 2
    counts = watching.counts
    assert (counts.frames, counts.events, counts.dropped) == (75, 2, 0)
    # Those of both vehicles, three after each, and the first of all with three more.
    assert 40 <= counts.read <= 54


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        (Settings(regions=((0, 80, 320, 240),)), ["ZH123456"]),
        (Settings(regions=((0, 0, 320, 70),)), ["GE65432"]),
        (Settings(regions=((0, 0, 320, 70), (0, 80, 320, 240))), ["ZH123456", "GE65432"]),
        (Settings(regions=((0, 0, 320, 0, 0, 240),)), ["ZH123456", "GE65432"]),
        (Settings(min_width=200), []),
    ],
)
def test_regions_and_sizes_choose(
    settings: Settings, texts: list[str], clip: Path, read: ReadFrame
) -> None:
    assert [
        event.plate for event in events_of(SourceSpec("lane", str(clip), settings), read)
    ] == texts


def test_boxes_are_those_of_the_whole_frame(read: ReadFrame) -> None:
    frame = frame_with(("ZH123456", 150, 120, 96))
    region: Region = (100, 80, 320, 240)
    watcher = Watcher("lane", read, Settings(regions=(region,)))
    for i in range(3):
        watcher.feed(Frame(i / 8, frame))
    (event,) = watcher.finish()
    assert event.best.box == pytest.approx((150, 120, 246, 144), abs=3)


def test_a_region_outside_of_the_frames_is_an_error(clip: Path, read: ReadFrame) -> None:
    settings = Settings(regions=((400, 0, 500, 100),))
    with pytest.raises(SourceError, match="no region lies in its frames of 320 x 240"):
        events_of(SourceSpec("lane", str(clip), settings), read)


def test_a_vehicle_that_stands_is_one_event(read: ReadFrame) -> None:
    watcher = Watcher("lane", read, Settings(delay=2))
    frame, events = frame_with(("ZH123456", 100, 100, 96)), []
    for i in range(400):
        events += watcher.feed(Frame(i / 8, frame))
    assert [event.plate for event in events] == ["ZH123456"]
    assert events[0].last == pytest.approx(2, abs=0.2)
    assert watcher.counts.read < 10
    assert not watcher.finish()


def test_vehicles_go_while_there_are_no_frames(read: ReadFrame) -> None:
    watcher = Watcher("lane", read, Settings())
    for i in range(4):
        assert not watcher.feed(Frame(i / 8, frame_with(("ZH123456", 90 + 9 * i, 100, 96))))
    assert not watcher.wait(1.0)
    assert [event.plate for event in watcher.wait(3.0)] == ["ZH123456"]


def test_images_are_kept_if_asked_for(clip: Path, read: ReadFrame) -> None:
    first, _ = events_of(SourceSpec("lane", str(clip), Settings(images=True)), read)
    assert isinstance(first.best.image, bytes)
    image = cv2.imdecode(np.frombuffer(first.best.image, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (SIZE[1], SIZE[0], 3)


def test_several_sources_at_once(clip: Path, read: ReadFrame, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(passing("TI1234567", 10)):
        cv2.imwrite(str(folder / f"{i}.png"), frame)
    specs = [
        SourceSpec("file", str(clip), Settings()),
        SourceSpec("folder", str(folder), Settings(frame_rate=10)),
        SourceSpec("missing", str(tmp_path / "none.mp4"), Settings()),
    ]
    results = list(watch(specs, read, threading.Event()))
    events = [each for each in results if isinstance(each, Event)]
    assert sorted((event.source, event.plate) for event in events) == [
        ("file", "GE65432"), ("file", "ZH123456"), ("folder", "TI1234567"),
    ]  # fmt: skip
    errors = [each for each in results if isinstance(each, Message) and each.is_error]
    assert [(each.source, each.text.partition(": ")[2]) for each in errors] == [
        ("missing", "there is no such file")
    ]


def test_a_fault_in_one_source_does_not_end_the_others(clip: Path, read: ReadFrame) -> None:
    calls = 0

    def fails_once(frame: Frame) -> Sequence[Plate]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("out of luck")
        return read(frame)

    specs = [SourceSpec(name, str(clip), Settings()) for name in ("first", "second")]
    results = list(watch(specs, fails_once, threading.Event()))
    errors = [each.text for each in results if isinstance(each, Message) and each.is_error]
    assert errors == ["RuntimeError: out of luck"]
    assert sum(isinstance(each, Event) for each in results) == 2


def test_stopping_gives_the_events_of_open_tracks(clip: Path) -> None:
    stop = threading.Event()

    def reads(frame: Frame) -> Sequence[Plate]:
        if frame.time > 1:
            stop.set()
        return [plate()]

    watching = Watching(SourceSpec("lane", str(clip), Settings()), reads, print, stop)
    (event,) = watching
    assert (event.plate, watching.counts.frames < 15) == ("ZH123456", True)
