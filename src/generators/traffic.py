"""A clip of vehicles that drive past one camera one after the other, for trying out what reads clips."""

from __future__ import annotations

from dataclasses import replace

from ..config.plates import StreetPlateParams
from .atlas import Atlas
from .clips import KINDS, Clip, draw_clip

_PLAIN = tuple(KINDS.index(kind) for kind in ("approach", "recede", "passing", "stop_and_go"))
"""Numbers of clips whose vehicles anybody can read."""
_CRF = 28


def draw_traffic(
    params: StreetPlateParams,
    atlas: Atlas,
    seed: int,
    vehicles: int,
    size: tuple[int, int] = (1280, 720),
    frame_rate: float = 25.0,
) -> Clip:
    """Draw the contents of a clip with vehicles by day, whose plates are of any kind.

    Args:
        params: Ranges of the plates.
        atlas: Glyphs.
        seed: Random seed.
        vehicles: Number of vehicles, at least 1.
        size: Width and height in pixels.
        frame_rate: Frames a second.
    """
    drawn = []
    for number in range(vehicles):
        # Numbers of the same kind are a whole round of kinds apart.
        rounds, place = divmod(number, len(_PLAIN))
        index = rounds * len(KINDS) + _PLAIN[place]
        drawn.append(draw_clip(params, atlas, seed, index, size, frame_rate))
    begin, moved = 0.0, []
    for clip in drawn:
        for vehicle in clip.vehicles:
            motion = replace(vehicle.motion, begin=vehicle.motion.begin + begin)
            moved.append(replace(vehicle, motion=motion))
        begin += clip.seconds
    return replace(drawn[0], vehicles=tuple(moved), seconds=begin, crf=_CRF)
