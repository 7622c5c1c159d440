"""Clips of several vehicles: one after the other, each as it is in a clip of its own."""

from __future__ import annotations

from itertools import pairwise

from src.config import load_config
from src.generators.atlas import Atlas
from src.generators.traffic import draw_traffic
from tests.conftest import PARAMETERS

SIZE = (1280, 720)


def test_vehicles_drive_past_one_after_the_other() -> None:
    params = load_config(PARAMETERS).StreetPlateParams
    atlas = Atlas(params, 0)
    clip = draw_traffic(params, atlas, 3, 6, SIZE)
    assert len(clip.vehicles) == 6
    assert clip.size == SIZE
    motions = [vehicle.motion for vehicle in clip.vehicles]
    assert all(first.finish < second.begin for first, second in pairwise(motions))
    assert motions[-1].finish < clip.seconds
    # Each is seen, and nobody is there in between.
    numbers = [round(m.begin * clip.frame_rate) - 2 for m in motions]
    assert all(clip.seen(number) == [None] * 6 for number in numbers[1:])
    assert all(any(frames) for frames in clip.clear_frames)
    texts = [vehicle.spec.text for vehicle in clip.vehicles]
    assert len(set(texts)) == 6


def test_the_same_seed_draws_the_same() -> None:
    params = load_config(PARAMETERS).StreetPlateParams
    atlas = Atlas(params, 0)
    one, same, other = (draw_traffic(params, atlas, seed, 2, SIZE) for seed in (1, 1, 2))
    assert one.truth() == same.truth()
    assert one.truth() != other.truth()
