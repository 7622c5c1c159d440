"""What the prepare stages share: a source of scenes, and what is shown of a prepared set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.config import Config
from src.datasets.backgrounds import load_backgrounds
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.generators.atlas import Atlas
from src.generators.draws import Draws
from src.generators.scene import SceneBlock, SceneRenderer, draw_scenes
from src.generators.structure import SPLIT_TEXTURES
from src.utils.files import complete_folder, write_picture
from src.utils.machine import available_cores

SAMPLE_PICTURES = 5
_GREEN = (80, 200, 80)


@dataclass(frozen=True)
class SceneSource:
    """Scenes of one set by their numbers; picklable, so that each worker gets one.

    Attributes:
        config: all parameters.
        seed: of the set.
        stream: the set's name; two sets of one seed share no scene.
        split: of the backgrounds and textures, ``train`` or ``val``.
        side: of the whole scene in pixels.
        structure_probability: share of backgrounds with sharp structure.
        atlas: glyph variants.
        pictures: backgrounds, ``(n, 32, 32)`` uint8.
        backgrounds: where they come from.
    """

    config: Config
    seed: int
    stream: str
    split: str
    side: int
    structure_probability: float
    atlas: Atlas
    pictures: NDArray[np.uint8] = field(init=False)
    backgrounds: str = field(init=False)

    def __post_init__(self) -> None:
        backgrounds = load_backgrounds(self.config.backgrounds_folder, self.split)
        object.__setattr__(self, "pictures", backgrounds.pictures)
        object.__setattr__(self, "backgrounds", backgrounds.source)

    def __getstate__(self) -> dict[str, object]:
        # A worker opens the backgrounds itself instead of getting a copy.
        return {name: value for name, value in vars(self).items() if name != "pictures"}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def block(self, indices: range) -> SceneBlock:
        """Draw the scenes with these numbers."""
        return draw_scenes(
            Draws(self.seed, self.stream, np.asarray(indices)),
            self.config.PlateParams,
            self.config.SceneParams,
            self.config.DegradeParams,
            self.structure_probability,
            len(self.pictures),
            SPLIT_TEXTURES[self.split],
        )

    @property
    def renderer(self) -> SceneRenderer:
        return SceneRenderer(self.atlas, self.pictures, self.side)


@dataclass(frozen=True)
class WholeScenes:
    """Makes shards of whole scenes."""

    source: SceneSource

    def __call__(self, indices: range) -> Shard:
        block, renderer = self.source.block(indices), self.source.renderer
        images = np.stack([renderer.render(block, i) for i in range(len(block))])
        return Shard(images, block.labels())


def worker_count(config: Config) -> int:
    """Processes that prepare: all cores this process may use, or one."""
    return available_cores() if config.MULTIPROCESSING else 1


def split_counts(total: int, share: float) -> dict[str, range]:
    """Numbers of the training and of the validation samples, at least one each."""
    train = min(max(round(total * share), 1), total - 1)
    return {"train": range(train), "val": range(train, total)}


def prepare_sets(
    config: Config,
    task: str,
    splits: dict[str, range],
    maker: Callable[[SceneSource], Callable[[range], Shard]],
    show: Callable[[ShardedSet, int], NDArray[np.uint8]],
    *,
    seed: int,
    side: int,
    structure_probability: float,
) -> None:
    """Write the prepared sets of a task and what is shown of them.

    Args:
        config: all parameters.
        task: ``localize``, ``ocr`` or ``stack``; it names the folders and the random stream.
        splits: numbers of the samples by split.
        maker: gives the function that makes shards out of a source.
        show: draws sample ``i`` of a set, ``(H, W)`` or ``(H, W, 3)`` BGR.
        seed, side, structure_probability: of the source.
    """
    atlas = Atlas(config.PlateParams, seed)
    new_sets = []
    for split, indices in splits.items():
        source = SceneSource(config, seed, task, split, side, structure_probability, atlas)
        meta = {"backgrounds": source.backgrounds, "seed": seed}
        new_sets.append(NewSet(config.prepared(task) / split, indices, maker(source), meta))
    write_sets(new_sets, worker_count(config))
    sets = {split: ShardedSet(config.prepared(task) / split) for split in splits}
    _write_overview(config.out("prepared", task), sets, show)


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
            "cantons": int(labels["plate"].str[:2].nunique()),
        }
        (temporary / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def _statistics(labels: pd.DataFrame) -> dict[str, pd.Series]:
    """Values to count by name; those of a sample stand at its row's number."""

    def binned(name: str, step: int) -> pd.Series:
        return (labels[name] // step * step).astype(int)

    return {
        "cantons": labels["plate"].str[:2],
        "digits": labels["plate"].str[2:].map(list).explode().dropna(),
        "lengths": labels["digits"],
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
        corners: ``(4, 2)`` normalised to the picture.
        zoom: whole factor of enlargement.

    Returns:
        ``(H * zoom, W * zoom, 3)`` BGR.
    """
    picture = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    points = corners * picture.shape[1::-1] - 0.5
    cv2.polylines(
        picture, [np.round(points * 16).astype(np.int32)], True, _GREEN, 1, cv2.LINE_AA, 4
    )
    return picture
