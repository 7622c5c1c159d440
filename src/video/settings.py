"""What is asked of a source: frames a second, regions of interest, the least size of plates, the delay."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..core.errors import UserError

Region = tuple[float, ...]
"""A rectangle x1, y1, x2, y2 or a polygon x1, y1, x2, y2, x3, y3, … in pixels of the frame."""


class SettingsError(UserError):
    """A setting of a source is missing, unknown or invalid."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a source.

    Attributes:
        fps: Frames a second that are looked at.
        regions: Regions of interest; a plate counts where its middle lies in one of them. Without any, it
            counts everywhere.
        min_width: Least width of a plate in pixels.
        delay: Seconds after which an event is given at the latest, also where its vehicle is still there.
        unread: Whether plates without a text give events.
        min_confidence: Probability from which on an event has a text; None is the one that was chosen on
            drawn clips (src/video/confidence.json).
        frame_rate: Frames a second of a folder of frames, and of raw MJPEG files, which hold no time.
        images: Whether an event has its best frame.
    """

    fps: Annotated[float, Meta(gt=0, le=100)] = 8.0
    regions: tuple[Region, ...] = ()
    min_width: Annotated[float, Meta(ge=0)] = 0.0
    delay: Annotated[float, Meta(gt=0)] = 6.0
    unread: bool = False
    min_confidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    frame_rate: Annotated[float, Meta(gt=0, le=1000)] = 25.0
    images: bool = False

    def __post_init__(self) -> None:
        for region in self.regions:
            polygon(region)


def polygon(region: Region) -> NDArray[np.float32]:
    """Return the corners of a region in pixels, shape ``(p, 2)``.

    Raises:
        ValueError: The region is not a rectangle with an area, nor a polygon of at least three points.
    """
    if len(region) == 4:
        x1, y1, x2, y2 = region
        if x1 >= x2 or y1 >= y2:
            raise ValueError(
                f"the region {_listed(region)} has no area; a rectangle is x1,y1,x2,y2 with x1 < x2, y1 < y2"
            )
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
    if len(region) < 6 or len(region) % 2:
        raise ValueError(
            f"the region {_listed(region)} has {len(region)} numbers; it needs x1,y1,x2,y2 of a "
            "rectangle, or x,y of each of at least three corners"
        )
    return np.array(region, np.float32).reshape(-1, 2)


def _listed(region: Region) -> str:
    return ",".join(f"{value:g}" for value in region)


class SourceSpec(msgspec.Struct, frozen=True):
    """A source with its name and settings.

    Attributes:
        name: Name that its events have.
        location: Path, URL or device.
        settings: What is asked of it.
    """

    name: str
    location: str
    settings: Settings


def load_tables(path: Path) -> dict[str, Any]:
    """Load a TOML file.

    Raises:
        SettingsError: The file cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}") from error


def load_sources(path: Path, defaults: Settings, others: Collection[str] = ()) -> list[SourceSpec]:
    """Load sources from a TOML file with a table for each: its name, ``source``, and its own settings.

        [gate]
        source = "rtsp://camera.example/stream"
        regions = [[200, 100, 1080, 700]]
        min_width = 60

    Args:
        path: TOML file.
        defaults: Settings where a table does not say otherwise.
        others: Names before the first table that are no sources.

    Raises:
        SettingsError: The file cannot be read, or a table is wrong.
    """
    tables = load_tables(path)
    if not tables:
        raise SettingsError(f"{path}: has no source; a table such as [gate] with source = … is one")
    known = msgspec.to_builtins(defaults)
    specs = []
    for name, table in tables.items():
        if name in others and not isinstance(table, dict):
            continue
        if not isinstance(table, dict) or not isinstance(table.get("source"), str):
            raise SettingsError(f'{path}: {name} must be a table with source = "…"')
        own = {key: value for key, value in table.items() if key != "source"}
        try:
            settings = msgspec.convert({**known, **own}, Settings)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{path}: [{name}]: {error}") from error
        specs.append(SourceSpec(name, table["source"], settings))
    return specs
