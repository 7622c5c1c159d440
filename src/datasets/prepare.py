"""What the prepare stages share: a source of scenes, and what is shown of a prepared set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..config.plates import PlateParams, StreetPlateParams
from ..core.files import complete_folder, write_picture
from ..core.machine import available_cores
from ..core.random import Draws
from ..generators.atlas import Atlas
from ..generators.scene import SceneBlock, SceneRenderer, draw_scenes
from ..generators.street import Degradations, StreetBlock, StreetRenderer, draw_streets
from ..generators.structure import SPLIT_TEXTURES
from .backgrounds import load_backgrounds
from .shards import NewSet, Shard, ShardedSet, write_sets

SAMPLE_PICTURES = 10
_GREEN = (80, 200, 80)


@dataclass(frozen=True)
class StreetMix:
    """How many of a set's scenes are street scenes, and of what kind.

    Attributes:
        share: of them; the others are the original project's.
        width: of a plate's box, least and most, in shares of the scene.
        inside: whether plates lie wholly in the scene.
        degradations: those of training or others.
        kinds: weights of Swiss plates, foreign plates, signs and nothing; by default those of
            StreetParams.
        families: weights of the glyph families; by default those of StreetPlateParams.
    """

    share: float
    width: tuple[float, float] = (0.15, 0.95)
    inside: bool = True
    degradations: Degradations = "train"
    kinds: list[float] | None = None
    families: list[float] | None = None


@dataclass(frozen=True)
class SceneSource:
    """Scenes of one set by their numbers; picklable, so that each worker gets one.

    Attributes:
        config: all parameters.
        seed: of the set.
        stream: the set's name; two sets of one seed share no scene.
        split: of the backgrounds and textures, ``train`` or ``val``.
        side: of the whole scene in pixels.
        structure_probability: share of the original's backgrounds with sharp structure.
        mix: of street scenes.
        atlas, street_atlas: glyph variants of both kinds of scenes.
        pictures: backgrounds, ``(n, 32, 32)`` uint8.
        backgrounds: where they come from.
    """

    config: Config
    seed: int
    stream: str
    split: str
    side: int
    structure_probability: float
    mix: StreetMix
    atlas: Atlas = field(init=False)
    street_atlas: Atlas = field(init=False)
    pictures: NDArray[np.uint8] = field(init=False)
    backgrounds: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "atlas", _atlas(self.config.PlateParams, self.seed))
        object.__setattr__(self, "street_atlas", _atlas(self._street_plates, self.seed))
        self._open_backgrounds()

    def _open_backgrounds(self) -> None:
        backgrounds = load_backgrounds(self.config.backgrounds_folder, self.split)
        object.__setattr__(self, "pictures", backgrounds.pictures)
        object.__setattr__(self, "backgrounds", backgrounds.source)

    def __getstate__(self) -> dict[str, object]:
        # A worker opens the backgrounds itself instead of getting a copy.
        return {
            name: value for name, value in vars(self).items() if name not in ("pictures", "streets")
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._open_backgrounds()

    def scenes_at(self, side: int) -> SceneRenderer:
        """Paints the original's scenes at a side in pixels."""
        return SceneRenderer(self.atlas, self.pictures, side)

    @cached_property
    def streets(self) -> StreetRenderer:
        """Paints street scenes."""
        return StreetRenderer(
            self.config.StreetParams,
            self.street_atlas,
            self.pictures,
            SPLIT_TEXTURES[self.split],
            self.side,
            self.mix.degradations,
        )

    @property
    def _street_plates(self) -> StreetPlateParams:
        plates = self.config.StreetPlateParams
        if self.mix.families is None:
            return plates
        # Nothing of another family among its characters.
        alone = {"ALTERNATE_PROBABILITY": 0.0, "FONT_PROBABILITY": 0.0}
        return plates.model_copy(update={"FAMILY_WEIGHTS": self.mix.families, **alone})

    def parts(self, indices: range) -> list[tuple[NDArray[np.int64], AnyPart]]:
        """The samples with these numbers by their kind: positions in ``indices``, and the part.

        Which kind a sample is depends on its number alone, as all of it does.
        """
        numbers = np.asarray(indices)
        street = Draws(self.seed, f"{self.stream}-style", numbers).chance(self.mix.share)
        parts: list[tuple[NDArray[np.int64], AnyPart]] = []
        if (~street).any():
            scenes = draw_scenes(
                Draws(self.seed, self.stream, numbers[~street]),
                self.config.PlateParams,
                self.config.SceneParams,
                self.config.DegradeParams,
                self.structure_probability,
                len(self.pictures),
                SPLIT_TEXTURES[self.split],
            )
            parts.append((np.flatnonzero(~street), Part(scenes, self.scenes_at(self.side))))
        if street.any():
            params = self.config.StreetParams
            if self.mix.kinds is not None:
                params = params.model_copy(update={"KIND_WEIGHTS": self.mix.kinds})
            streets = draw_streets(
                Draws(self.seed, f"{self.stream}-street", numbers[street]),
                self._street_plates,
                params,
                self.mix.width,
                self.mix.inside,
            )
            parts.append((np.flatnonzero(street), Part(streets, self.streets)))
        return parts


SomeBlock = TypeVar("SomeBlock", SceneBlock, StreetBlock)


Block_contra = TypeVar("Block_contra", contravariant=True)


class Renderer(Protocol[Block_contra]):
    """Paints the scenes of one kind of block."""

    def render(
        self, block: Block_contra, i: int, window: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Part(Generic[SomeBlock]):
    """Scenes of one kind before any pixel is drawn, and what paints them."""

    block: SomeBlock
    renderer: Renderer[SomeBlock]

    def render(self, i: int, window: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
        """Scene ``i`` of the block, ``(H, W)`` uint8."""
        return self.renderer.render(self.block, i, window)


AnyPart = Part[SceneBlock] | Part[StreetBlock]


@lru_cache(maxsize=4)
def _cached_atlas(plates: str, seed: int) -> Atlas:
    return Atlas(PlateParams.model_validate_json(plates), seed)


def _atlas(plates: PlateParams, seed: int) -> Atlas:
    """The atlas of these parameters; sets of one seed share one, also on their way to a worker."""
    return _cached_atlas(plates.model_dump_json(), seed)


@dataclass(frozen=True)
class WholeScenes:
    """Makes shards of whole scenes."""

    source: SceneSource

    def __call__(self, indices: range) -> Shard:
        side = self.source.side
        images = np.empty((len(indices), side, side), np.uint8)
        tables = []
        for positions, part in self.source.parts(indices):
            for i, position in enumerate(positions):
                images[position] = part.render(i)
            tables.append(part.block.labels().set_index(positions))
        return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))


def worker_count(config: Config) -> int:
    """Processes that prepare: all cores this process may use, or one."""
    return available_cores() if config.MULTIPROCESSING else 1


def split_counts(total: int, share: float) -> dict[str, range]:
    """Numbers of the training and of the validation samples, at least one each."""
    train = min(max(round(total * share), 1), total - 1)
    return {"train": range(train), "val": range(train, total)}


@dataclass(frozen=True)
class Planned:
    """A set to prepare: its samples' numbers, what makes them, and what meta.json says of it."""

    indices: range
    make: Callable[[range], Shard]
    meta: dict[str, Any]


def planned(
    indices: range, source: SceneSource, maker: Callable[[SceneSource], Callable[[range], Shard]]
) -> Planned:
    """A set of a source's scenes."""
    meta = {"backgrounds": source.backgrounds, "seed": source.seed}
    return Planned(indices, maker(source), meta)


def prepare_sets(
    config: Config,
    task: str,
    sets: dict[str, Planned],
    show: Callable[[ShardedSet, int], NDArray[np.uint8]],
) -> None:
    """Write the prepared sets of a task and what is shown of them.

    Args:
        config: all parameters.
        task: ``localize``, ``ocr`` or ``stack``; it names the folders.
        sets: by name; sample pictures are those of the first.
        show: draws sample ``i`` of a set, ``(H, W)`` or ``(H, W, 3)`` BGR.
    """
    new_sets = [
        NewSet(config.prepared(task) / name, plan.indices, plan.make, plan.meta)
        for name, plan in sets.items()
    ]
    write_sets(new_sets, worker_count(config))
    written = {name: ShardedSet(config.prepared(task) / name) for name in sets}
    _write_overview(config.out("prepared", task), written, show)


def _write_overview(
    folder: Path, sets: dict[str, ShardedSet], show: Callable[[ShardedSet, int], NDArray[np.uint8]]
) -> None:
    """Write what is shown of a prepared set: sample pictures, class statistics, metrics.

    Args:
        folder: ``out/prepared/<task>``.
        sets: by split.
        show: draws sample ``i`` of a set, ``(H, W)`` or ``(H, W, 3)`` BGR.
    """
    with complete_folder(folder) as temporary:
        images = temporary / "plots" / "images"
        images.mkdir(parents=True)
        first = next(iter(sets.values()))
        for i in range(min(SAMPLE_PICTURES, len(first))):
            write_picture(images / f"sample_{i}.png", show(first, i))
        labels = pd.concat(
            [data.labels.assign(set=split) for split, data in sets.items()], ignore_index=True
        )
        for name, values in _statistics(labels).items():
            counts = values.groupby([labels["set"].loc[values.index].to_numpy(), values]).size()
            counts.rename_axis(["set", "value"]).rename("count").reset_index().to_csv(
                temporary / "plots" / f"{name}.csv", index=False
            )
        metrics = {
            "samples": {split: len(data) for split, data in sets.items()},
            "backgrounds": first.meta["backgrounds"],
            "mean_plate_height": round(float(labels["plate_height"].mean()), 3),
            "two_lines": round(float((labels["lines"] == 2).mean()), 5),
            "without_plate": round(float((~labels["present"]).mean()), 5),
            "without_text": round(float((labels["plate"] == "").mean()), 5),
            "cantons": int(labels["plate"][labels["plate"] != ""].str[:2].nunique()),
        }
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def _statistics(labels: pd.DataFrame) -> dict[str, pd.Series]:
    """Values to count by name; those of a sample stand at its row's number."""

    def binned(name: str, step: int) -> pd.Series:
        return (labels[name].dropna() // step * step).astype(int)

    texts = labels["plate"][labels["plate"] != ""]
    return {
        "cantons": texts.str[:2],
        "digits": texts.str[2:].map(list).explode().dropna(),
        "lengths": labels["digits"].loc[texts.index],
        "formats": labels["format"],
        "sizes": binned("plate_height", 4),
        "angles": binned("angle", 5),
    }


def draw_sample(
    image: NDArray[np.uint8], corners: NDArray[np.float32], zoom: int
) -> NDArray[np.uint8]:
    """A sample enlarged, with the outline of its plate.

    Args:
        image: ``(H, W)`` uint8.
        corners: ``(4, 2)`` normalised to the picture; not a number where there is no plate.
        zoom: whole factor of enlargement.

    Returns:
        ``(H * zoom, W * zoom, 3)`` BGR.
    """
    picture = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if np.isnan(corners).any():
        return picture
    points = corners * picture.shape[1::-1] - 0.5
    cv2.polylines(
        picture, [np.round(points * 16).astype(np.int32)], True, _GREEN, 1, cv2.LINE_AA, 4
    )
    return picture
