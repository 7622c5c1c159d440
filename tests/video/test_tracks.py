"""Plates of successive frames that are one vehicle's, and where it drives."""

from __future__ import annotations

import pytest

from src.video.tracks import GONE, Track, Tracker, distinct
from tests.video.footage import plate


def follow(frames: list[list[object]], step: float = 0.2) -> tuple[Tracker, list[Track]]:
    tracker, gone = Tracker(), []
    for i, plates in enumerate(frames):
        gone += tracker.update(i * step, plates)  # type: ignore[arg-type]  # plates of the helper
    return tracker, gone


def test_a_plate_that_moves_is_one_track() -> None:
    tracker, _ = follow([[plate(at=(100 + 30 * i, 100))] for i in range(8)])
    (track,) = tracker.tracks
    assert (track.first, track.last, track.frames) == (0.0, pytest.approx(1.4), 8)
    assert track.direction == "right"


def test_two_plates_that_cross_keep_their_texts() -> None:
    frames = [
        [plate("ZH111111", (100 + 40 * i, 100)), plate("BE999999", (420 - 40 * i, 110))]
        for i in range(9)
    ]
    tracker, _ = follow(frames)
    assert sorted(track.vote.text for track in tracker.tracks) == ["BE999999", "ZH111111"]
    assert all(track.vote.sightings == 9 for track in tracker.tracks)
    assert {track.vote.text: track.direction for track in tracker.tracks} == {
        "ZH111111": "right",
        "BE999999": "left",
    }


def test_unread_plates_are_told_apart_by_position() -> None:
    frames = [
        [plate("ZH1", (100 + 9 * i, 100), confidence=0.1), plate("ZH1", (600, 100), confidence=0.1)]
        for i in range(5)
    ]
    tracker, _ = follow(frames)
    assert [track.vote.sightings for track in tracker.tracks] == [5, 5]


def test_a_plate_that_is_found_twice_in_a_frame_counts_once() -> None:
    twice = [plate(confidence=0.8, at=(110, 60), width=300), plate(confidence=0.99)]
    tracker, _ = follow([distinct(twice)] * 3)
    (track,) = tracker.tracks
    assert track.vote.sightings == 3
    assert track.vote.best.plate.confidence == 0.99
    # Of plates that cannot be read, nobody knows.
    tracker, _ = follow([[plate("ZH1", (x, 100), confidence=0.1) for x in (100, 600)]])
    assert len(tracker.tracks) == 2


def test_a_misreading_does_not_break_a_track() -> None:
    texts = ["ZH123456", "ZH123456", "ZH123466", "ZH12456", "ZH123456"]
    tracker, _ = follow([[plate(text, (100 + 5 * i, 100))] for i, text in enumerate(texts)])
    (track,) = tracker.tracks
    assert track.vote.text == "ZH123456"


def test_the_next_vehicle_in_the_same_place_is_another_track() -> None:
    tracker, _ = follow([[plate("ZH123456")]] * 3 + [[plate("GE987")]] * 3)
    assert [track.vote.text for track in tracker.tracks] == ["ZH123456", "GE987"]


def test_the_same_text_is_the_same_track_however_far_it_has_moved() -> None:
    tracker, _ = follow([[plate(at=(100, 100))], [plate(at=(900, 100))]])
    assert len(tracker.tracks) == 1


def test_a_gap_is_bridged_and_a_long_one_ends_the_track() -> None:
    step = 0.25
    missing = int(GONE / step) - 1
    there = [[plate(at=(100 + 10 * i, 100))] for i in range(3)]
    tracker, gone = follow(there + [[]] * missing + [[plate(at=(200, 100))]], step)
    assert not gone
    assert len(tracker.tracks) == 1
    tracker, gone = follow(there + [[]] * (missing + 3), step)
    assert [track.last for track in gone] == [2 * step]
    assert not tracker.tracks


def test_a_vehicle_remains_while_nothing_moves() -> None:
    tracker, _ = follow([[plate()]] * 2)
    for i in range(100):
        assert not tracker.remain(1.0 + i)
    assert tracker.tracks[0].last == 100.0
    # But one that had left the frame before does not.
    tracker, _ = follow([[plate()], []])
    assert tracker.remain(GONE + 1)


@pytest.mark.parametrize(
    ("places", "widths", "direction"),
    [
        ((0, 5), (30, 90), "approaching"),
        ((0, 5), (90, 30), "receding"),
        ((0, -40), (60, 60), "left"),
        ((0, 40), (60, 66), "right"),
        ((0, 0), (60, 60), None),
    ],
)
def test_directions(
    places: tuple[int, int], widths: tuple[int, int], direction: str | None
) -> None:
    count = 9
    frames = []
    for i in range(count):
        share = i / (count - 1)
        x = 300 + (places[1] - places[0]) * i
        width = widths[0] + (widths[1] - widths[0]) * share
        frames.append([plate(at=(x, 100), width=width)])
    tracker, _ = follow(frames)
    assert tracker.tracks[0].direction == direction
