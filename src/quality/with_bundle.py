"""Networks of an exported bundle, which take images of any size with any number of plates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.geometry import box_iou, xyxy_to_box
from ..core.machine import available_cores
from ..evaluation.metrics import batches
from ..inference.bundle import Bundle
from ..inference.crops import recognizer_crop
from ..inference.reader import PlateReader
from ..inference.runtimes import Network, best_runtime
from .networks import BATCH_SIZE, Found, Networks
from .samples import FloatArray, ImageArray


def bundle_networks(path: Path | None) -> Networks:
    """Wrap the networks of an exported bundle (by default the promoted one), which find and read plates.

    Raises:
        BundleError: The bundle is missing or damaged.
    """
    bundle = Bundle.load(path)
    stack = PlateReader.load(path)
    spec = bundle.manifest.recognizer
    runtime = best_runtime(has_int8=False)
    reader = bundle.networks(False)[1]
    network = Network(reader, runtime, available_cores(), [spec.input_shape[1:]])

    def find(images: Sequence[ImageArray], near: FloatArray) -> Found:
        corners, score = np.full((len(images), 4, 2), np.nan), np.zeros(len(images))
        lines: list[int] = []
        for batch in batches(len(images), BATCH_SIZE):
            part = images[batch.start : batch.stop]
            found = stack.read_batch(part, min_confidence=0.0)
            for i, image, plates in zip(batch, part, found, strict=True):
                lines.append(1)
                if not plates:
                    continue
                size = np.array(image.shape[::-1])
                boxes = xyxy_to_box(np.array([plate.box for plate in plates]) / np.tile(size, 2))
                overlap = np.nan_to_num(box_iou(boxes, np.broadcast_to(near[i], boxes.shape)))
                # Of plates that overlap the box equally (such as not at all), take the highest score.
                order = np.lexsort((np.array([plate.score for plate in plates]), overlap))
                plate = plates[int(order[-1])]
                corners[i], score[i] = np.array(plate.corners) / size, plate.score
                lines[-1] = plate.lines
        return Found(corners, score, np.array(lines))

    def read(
        images: Sequence[ImageArray], corners: FloatArray, lines: Sequence[int], dropout: bool
    ) -> FloatArray:
        crops = []
        for image, quad, count in zip(images, corners, lines, strict=True):
            pixels = quad * image.shape[::-1]
            crops.append(
                recognizer_crop(image, pixels, spec.rectification, spec.input_shape, count)
            )
        parts = [np.stack([crops[i] for i in batch]) for batch in batches(len(crops), BATCH_SIZE)]
        return np.concatenate([network.run(part) for part in parts])

    return Networks(find=find, read=read)
