"""Vehicles that drive past a camera: motions, what is seen of their plates, and the frames."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.config import load_config
from src.generators import footage
from src.generators.atlas import Atlas
from src.generators.clips import CLEAR_CAP, CRFS, KINDS, Clip, Motion, draw_clip
from src.generators.footage import Footage, FootageError, write_clip
from src.generators.plate import COLOURS
from tests.conftest import PARAMETERS

SIZE = (320, 180)
PLATE = load_config(PARAMETERS).StreetPlateParams


@cache
def atlas() -> Atlas:
    return Atlas(PLATE, 0)


@cache
def clip(index: int, seed: int = 0, size: tuple[int, int] = SIZE, rate: float = 10.0) -> Clip:
    return draw_clip(PLATE, atlas(), seed, index, size, rate)


def middle_frame(made: Clip) -> int:
    """A frame with all vehicles, as near as they get."""
    counts = [
        (sum(seen is not None for seen in made.seen(i)),
         sum(seen.cap for seen in made.seen(i) if seen is not None), i)
        for i in range(len(made))
    ]  # fmt: skip
    return max(counts)[2]


def test_a_clip_depends_on_its_seed_and_number_alone() -> None:
    again = draw_clip(PLATE, Atlas(PLATE, 0), 0, 2, SIZE, 10.0)
    frame = middle_frame(again)
    assert np.array_equal(Footage(again).frame(frame), Footage(clip(2)).frame(frame))
    assert again.truth() == clip(2).truth()
    assert clip(2, seed=1).vehicles[0].spec.text != again.vehicles[0].spec.text


def test_each_kind_comes_in_turn_with_what_it_is_named_for() -> None:
    kinds = [clip(i).kind for i in range(2 * len(KINDS))]
    assert Counter(kinds) == dict.fromkeys(KINDS, 2)
    for i in range(4 * len(KINDS)):
        made = clip(i)
        assert len(made.vehicles) == (2 if made.kind == "two" else 1)
        assert (made.pillar is not None) == (made.kind == "behind_pillar")
        assert (made.conditions.streaks > 0) == (made.kind == "rain")
        assert (made.conditions.headlights > 0) == (made.kind == "night")
        assert (made.vehicles[0].motion.stop is not None) == (made.kind == "stop_and_go")
        assert made.crf in CRFS
    covered = [clip(i).vehicles[0] for i in range(KINDS.index("covered"), 200, len(KINDS))]
    assert {True, False} == {vehicle.hides for vehicle in covered}
    assert all(vehicle.text == "" for vehicle in covered if vehicle.hides)


@pytest.mark.parametrize("kind", ["approach", "recede", "passing"])
def test_plates_move_as_their_direction_says(kind: str) -> None:
    made = clip(KINDS.index(kind))  # type: ignore[arg-type]  # it is one of them
    (vehicle,) = made.vehicles
    seen = [each for i in range(len(made)) for each in made.seen(i) if each is not None]
    first, last = seen[0], seen[-1]
    if kind == "passing":
        way = float(last.corners[:, 0].mean() - first.corners[:, 0].mean())
        assert abs(way) > 0.8 * SIZE[0]
        assert (way > 0) == (vehicle.direction == "right")
    else:
        assert (last.cap > 2 * first.cap) == (vehicle.direction == "approaching")
        assert (first.cap > 2 * last.cap) == (vehicle.direction == "receding")


def test_a_stop_is_a_stop() -> None:
    motion = Motion((0.5, 0.3, 0.01), (0.6, 0.9, 0.04), 1.0, 4.0, stop=0.5, pause=2.0)
    assert motion.progress(1.0) == 0
    assert motion.progress(3.0) == motion.progress(4.9) == 0.5
    assert motion.progress(7.0) == pytest.approx(1)
    assert motion.finish == 7.0
    way = [motion.progress(t) for t in np.linspace(1, 7, 60)]
    assert (np.diff(way) >= 0).all()
    # No jump: it brakes and accelerates.
    assert max(np.diff(way)) < 0.06
    assert motion.at(0) == pytest.approx(motion.start)
    assert motion.at(1) == pytest.approx(motion.end)


def test_a_plate_is_clear_inside_of_the_image_free_and_large_enough() -> None:
    made = clip(KINDS.index("behind_pillar"), size=(1280, 720))
    assert made.pillar is not None
    left, right = (edge * 1280 for edge in made.pillar)
    states = Counter()
    for i in range(len(made)):
        (seen,) = made.seen(i)
        if seen is None:
            continue
        low, high = seen.corners.min(axis=0), seen.corners.max(axis=0)
        inside = (low >= 0).all() and (high <= (1280, 720)).all()
        hidden = high[0] >= left and low[0] <= right
        assert seen.is_clear == bool(inside and not hidden and seen.cap >= CLEAR_CAP)
        states[seen.is_clear, bool(hidden)] += 1
    assert states[True, False]
    assert states[False, True]


def test_a_nearer_vehicle_hides_a_plate() -> None:
    hidden = 0
    for i in range(KINDS.index("two"), 120, len(KINDS)):
        made = clip(i, size=(1280, 720), rate=5.0)
        for number in range(len(made)):
            far, near = made.seen(number)
            if far is not None and near is not None and far.cap >= CLEAR_CAP:
                inside = (far.corners >= 0).all() and (far.corners <= (1280, 720)).all()
                hidden += bool(inside and not far.is_clear)
    assert hidden


def test_the_truth_says_what_is_expected() -> None:
    for i in range(2 * len(KINDS)):
        made = clip(i, size=(1280, 720))
        for vehicle, row, frames in zip(
            made.vehicles, made.truth(), made.clear_frames, strict=True
        ):
            assert row["text"] == vehicle.text
            if not vehicle.text:
                assert row["expected"] is False
                assert not frames
            else:
                assert row["expected"] is (True if len(frames) >= 2.5 else None)


def test_the_plate_is_where_the_truth_has_it_and_has_its_colour() -> None:
    checked = 0
    for index in range(2 * len(KINDS)):
        made = clip(index, size=(960, 540))
        (*_, frames) = made.clear_frames
        if made.kind not in ("approach", "recede", "passing") or not frames:
            continue
        (vehicle,) = made.vehicles
        frame = frames[len(frames) // 2]
        (seen,) = made.seen(frame)
        assert seen is not None
        image = Footage(made).frame(frame)
        middle = seen.corners.mean(axis=0)
        inner = np.round(middle + (seen.corners - middle) * 0.8).astype(np.int32)
        mask = cv2.fillConvexPoly(np.zeros(image.shape[:2], np.uint8), inner, 1).astype(bool)
        pixels = image[mask].astype(float)
        light = pixels.sum(axis=1)
        bright = pixels[light >= np.quantile(light, 0.6)].mean(axis=0)
        # The ground keeps its ratio of blue to red in whatever light.
        red, _, blue = COLOURS[vehicle.spec.colour_index].ground
        assert bright[0] / bright[2] == pytest.approx(blue / red, rel=0.25)
        # There is ink on it: it has been painted there, not somewhere else.
        assert light.std() > 40
        checked += 1
    assert checked >= 4


def test_empty_frames_differ_by_noise_only() -> None:
    made = clip(0)
    shown = Footage(made)
    assert made.seen(0) == [None]
    first, second = shown.frame(0).astype(int), shown.frame(1).astype(int)
    assert (first != second).any()
    assert np.abs(first - second).mean() < 6 * made.conditions.noise


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")
def test_a_clip_is_written_with_its_truth(tmp_path: Path) -> None:
    made = clip(2)
    path = tmp_path / "clip.mp4"
    write_clip(Footage(made), path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.json", "clip.mp4"]
    truth = json.loads(path.with_suffix(".json").read_text())
    assert truth["kind"] == "passing"
    assert truth["vehicles"] == json.loads(json.dumps(made.truth()))
    capture = cv2.VideoCapture(str(path))
    count = 0
    while True:
        done, image = capture.read()
        if not done:
            break
        if count in (0, middle_frame(made)):
            assert np.abs(image.astype(int) - Footage(made).frame(count)).mean() < 12
        count += 1
    assert count == len(made)


def test_a_missing_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage.shutil, "which", lambda _: None)
    with pytest.raises(FootageError, match="apt-get install ffmpeg"):
        write_clip(Footage(clip(2)), tmp_path / "clip.mp4")


def test_a_failing_encoder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = tmp_path / "ffmpeg"
    fails.write_text("#!/bin/sh\necho 'no room' >&2\nexit 1\n")
    fails.chmod(0o755)
    monkeypatch.setattr(footage.shutil, "which", lambda _: str(fails))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(FootageError, match=r"clip\.mp4: ffmpeg cannot encode it: no room"):
        write_clip(Footage(clip(2)), folder / "clip.mp4")
    assert not list(folder.iterdir())
