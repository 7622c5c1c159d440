"""Code shared by the prepare stages: a source of scenes, and the overview of a prepared set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..config import Config
from ..config.plates import PlateParams, StreetPlateParams
from ..config.scenes import StreetParams
from ..core.dependencies import PACKAGE, closure
from ..core.files import complete_folder, write_image
from ..core.machine import available_cores
from ..core.random import Draws
from ..engine.ray_cluster import RayEngine
from ..engine.tasks import Engine, LocalEngine
from ..generators.atlas import Atlas
from ..generators.scene import SceneBlock, SceneRenderer, draw_scenes
from ..generators.street import Degradations, StreetBlock, StreetRenderer, draw_streets
from ..generators.structure import SPLIT_TEXTURES
from .backgrounds import load_backgrounds
from .shards import NewSet, Shard, ShardedSet, write_sets

SAMPLE_IMAGES = 10
_UNFINISHED = ".partial"
"""Ending of the folder that keeps the shards of a stage that was killed."""
_LATER = ("Train", "Finetune", "Evaluate", "Quality")
"""How the names of parameters of later stages begin."""
_GREEN = (80, 200, 80)


@dataclass(frozen=True)
class StreetMix:
    """Proportion and kind of the street scenes in a set.

    Attributes:
        share: Fraction of street scenes; the others are scenes of the original project.
        width: Minimum and maximum width of a plate's box, as a fraction of the scene's side.
        inside: True if plates lie entirely within the scene.
        degradations: Degradations of training (``train``) or others (``shifted``).
        obstacles: Share of Swiss plates, in both kinds of scenes, with an obstacle in front of them.
        least_size: Smallest factors on the width and height of street plates; see ``draw_streets``.
        street: Parameters that differ from those of StreetParams.
        families: Weights of the glyph families; by default those of StreetPlateParams.
    """

    share: float
    width: tuple[float, float] = (0.15, 0.95)
    inside: bool = True
    degradations: Degradations = "train"
    obstacles: float = 0.0
    least_size: tuple[float, float] = (1.0, 1.0)
    street: Mapping[str, Any] = field(default_factory=dict)
    families: list[float] | None = None


@dataclass(frozen=True)
class SceneSource:
    """Source of a set's scenes by number; picklable, so that each worker gets its own.

    Attributes:
        config: Configuration with all parameters.
        seed: Random seed of the set.
        stream: Name of the set; two sets with the same seed share no scene.
        split: Split of the backgrounds and textures, ``train`` or ``val``.
        side: Side of the whole scene in pixels.
        structure_probability: Fraction of the original's backgrounds with sharp structure.
        mix: Proportion and kind of street scenes.
        atlas: Glyph variants of the original's scenes.
        street_atlas: Glyph variants of street scenes.
        folder: Absolute path of the backgrounds.
        images: Background images, shape ``(n, 32, 32)``, uint8.
        backgrounds: Origin of the background images.
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
    folder: Path = field(init=False)
    images: NDArray[np.uint8] = field(init=False)
    backgrounds: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "atlas", _atlas(self.config.PlateParams, self.seed))
        object.__setattr__(self, "street_atlas", _atlas(self._street_plates, self.seed))
        # Workers have another current folder.
        object.__setattr__(self, "folder", self.config.backgrounds_folder.absolute())
        self._open_backgrounds()

    def _open_backgrounds(self) -> None:
        backgrounds = load_backgrounds(self.folder, self.split)
        object.__setattr__(self, "images", backgrounds.images)
        object.__setattr__(self, "backgrounds", backgrounds.source)

    def __getstate__(self) -> dict[str, object]:
        # Each worker opens the backgrounds itself instead of receiving a copy.
        return {
            name: value for name, value in vars(self).items() if name not in ("images", "streets")
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._open_backgrounds()

    def scenes_at(self, side: int) -> SceneRenderer:
        """Return a renderer of the original's scenes with the given side in pixels."""
        return SceneRenderer(self.atlas, self.images, side)

    @cached_property
    def streets(self) -> StreetRenderer:
        """Renderer of street scenes."""
        return StreetRenderer(
            self._street,
            self.street_atlas,
            self.images,
            SPLIT_TEXTURES[self.split],
            self.side,
            self.mix.degradations,
        )

    @property
    def _street(self) -> StreetParams:
        return self.config.StreetParams.model_copy(update=dict(self.mix.street))

    @property
    def _street_plates(self) -> StreetPlateParams:
        plates = self.config.StreetPlateParams
        if self.mix.families is None:
            return plates
        # No characters of another family are mixed in.
        alone = {"ALTERNATE_PROBABILITY": 0.0, "FONT_PROBABILITY": 0.0}
        return plates.model_copy(update={"FAMILY_WEIGHTS": self.mix.families, **alone})

    def parts(self, indices: range) -> list[tuple[NDArray[np.int64], AnyPart]]:
        """Group samples by kind of scene, as pairs of positions in ``indices`` and the part.

        The kind of a sample, like everything else about it, depends only on its number.
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
                len(self.images),
                self.atlas,
                SPLIT_TEXTURES[self.split],
                self.mix.obstacles,
            )
            parts.append((np.flatnonzero(~street), Part(scenes, self.scenes_at(self.side))))
        if street.any():
            streets = draw_streets(
                Draws(self.seed, f"{self.stream}-street", numbers[street]),
                self._street_plates,
                self._street,
                self.mix.width,
                self.mix.inside,
                self.street_atlas,
                self.mix.obstacles,
                self.mix.least_size,
            )
            parts.append((np.flatnonzero(street), Part(streets, self.streets)))
        return parts


SomeBlock = TypeVar("SomeBlock", SceneBlock, StreetBlock)


Block_contra = TypeVar("Block_contra", contravariant=True)


class Renderer(Protocol[Block_contra]):
    """Protocol of renderers, each for one kind of block."""

    def render(
        self, block: Block_contra, i: int, window: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Part(Generic[SomeBlock]):
    """Scenes of one kind, not yet rendered, with their renderer."""

    block: SomeBlock
    renderer: Renderer[SomeBlock]

    def render(self, i: int, window: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
        """Render scene ``i`` of the block, shape ``(H, W)``, uint8."""
        return self.renderer.render(self.block, i, window)


AnyPart = Part[SceneBlock] | Part[StreetBlock]


@lru_cache(maxsize=4)
def _cached_atlas(plates: str, seed: int) -> Atlas:
    return Atlas(PlateParams.model_validate_json(plates), seed)


def _atlas(plates: PlateParams, seed: int) -> Atlas:
    """Return the atlas of these parameters; sets with the same seed share it, even when pickled."""
    return _cached_atlas(plates.model_dump_json(), seed)


@dataclass(frozen=True)
class WholeScenes:
    """Callable that generates shards of whole scenes."""

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


def engine_of(config: Config) -> Engine:
    """Return where sets are drawn: on a cluster, or on all cores available to this process, or on one."""
    if config.engine == "ray":
        return RayEngine(config.cluster)
    return LocalEngine(available_cores() if config.MULTIPROCESSING else 1)


def _fingerprint(config: Config, task: str) -> str:
    """Return a digest of all that the bytes of a task's shards depend on."""
    # More parameters than it needs, but not those of later stages, nor where the work is done.
    left_out = {"MULTIPROCESSING", "engine", "cluster", "tracker", "trainer", "models"}
    left_out |= {name for name in Config.model_fields if name.startswith(_LATER)}
    values = config.model_dump_json(exclude=left_out)
    files = [config.backgrounds_folder / "meta.json", *closure(PACKAGE / task / "prepare.py")]
    packages = [package.__version__ for package in (np, cv2, pd, pa)]
    digest = hashlib.sha256(json.dumps([values, packages]).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def split_counts(total: int, share: float) -> dict[str, range]:
    """Return the numbers of the training and the validation samples, at least one each."""
    train = min(max(round(total * share), 1), total - 1)
    return {"train": range(train), "val": range(train, total)}


@dataclass(frozen=True)
class Planned:
    """A set to prepare: its sample numbers, its shard generator and its entries for meta.json."""

    indices: range
    make: Callable[[range], Shard]
    meta: dict[str, Any]


def planned(
    indices: range, source: SceneSource, maker: Callable[[SceneSource], Callable[[range], Shard]]
) -> Planned:
    """Plan a set of the scenes of a source."""
    meta = {"backgrounds": source.backgrounds, "seed": source.seed}
    return Planned(indices, maker(source), meta)


def prepare_sets(
    config: Config,
    task: str,
    sets: dict[str, Planned],
    show: Callable[[ShardedSet, int], NDArray[np.uint8]],
) -> None:
    """Write the prepared sets of a task and an overview of them.

    Args:
        config: Configuration with all parameters.
        task: Name of the task, ``localize``, ``ocr`` or ``stack``, which names the folders.
        sets: Sets by name; sample images are taken from the first.
        show: Function that draws sample ``i`` of a set, shape ``(H, W)``, or ``(H, W, 3)`` in BGR.
    """
    new_sets = [
        NewSet(config.prepared(task) / name, plan.indices, plan.make, plan.meta)
        for name, plan in sets.items()
    ]
    # Not in the task's folder, which DVC removes before it runs the stage.
    prefix = f".{task}-"
    parent = config.prepared(task).parent
    unfinished = parent / f"{prefix}{_fingerprint(config, task)}{_UNFINISHED}"
    for folder in parent.glob(f"{prefix}*{_UNFINISHED}"):
        if folder != unfinished:
            shutil.rmtree(folder, ignore_errors=True)
    write_sets(new_sets, engine_of(config), unfinished=unfinished)
    written = {name: ShardedSet(config.prepared(task) / name) for name in sets}
    _write_overview(config.out("prepared", task), written, show)


def _write_overview(
    folder: Path, sets: dict[str, ShardedSet], show: Callable[[ShardedSet, int], NDArray[np.uint8]]
) -> None:
    """Write the overview of prepared sets: sample images, class statistics and metrics.

    Args:
        folder: Output folder, ``out/prepared/<task>``.
        sets: Prepared sets by name.
        show: Function that draws sample ``i`` of a set, shape ``(H, W)``, or ``(H, W, 3)`` in BGR.
    """
    with complete_folder(folder) as temporary:
        images = temporary / "plots" / "images"
        images.mkdir(parents=True)
        first = next(iter(sets.values()))
        for i in range(min(SAMPLE_IMAGES, len(first))):
            write_image(images / f"sample_{i}.png", show(first, i))
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
    """Return the values to count, by name, each indexed by its sample's row number."""

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
    """Draw an enlarged sample with the outline of its plate.

    Args:
        image: Grey image, shape ``(H, W)``, uint8.
        corners: Plate corners normalised to the image, shape ``(4, 2)``; NaN where there is no plate.
        zoom: Integer enlargement factor.

    Returns:
        BGR image, shape ``(H * zoom, W * zoom, 3)``.
    """
    drawn = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    drawn = cv2.cvtColor(drawn, cv2.COLOR_GRAY2BGR)
    if np.isnan(corners).any():
        return drawn
    points = corners * drawn.shape[1::-1] - 0.5
    cv2.polylines(drawn, [np.round(points * 16).astype(np.int32)], True, _GREEN, 1, cv2.LINE_AA, 4)
    return drawn
