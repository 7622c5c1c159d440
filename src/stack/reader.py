"""PlateReader: finds and reads the number plates of any picture with an exported bundle (no torch).

    reader = PlateReader.load()
    for plate in reader.read("car.jpg"):
        print(plate.plate, plate.confidence)

What the localizer finds is straightened, read, and given a calibrated probability; a text is given
where that reaches the threshold.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import hypot
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src.bundle import Bundle, ReaderEntry
from src.calibration import features, line_height
from src.datasets.crops import reader_crop
from src.decoding import Reading, decode
from src.detection import SURE, Detections
from src.geometry import FloatArray, Rectification
from src.images import Picture, Pixels, Source, load_image
from src.runtimes import Network, Runtime, best_runtime
from src.stack.finder import find_plates
from src.stack.pyramid import Pyramid
from src.utils.machine import available_cores

LEAST_SIDE = 8
"""Pictures with a shorter side have no plates."""
ONE_LINE, TWO_LINES = 0.1, 0.9
"""Between these probabilities of two lines, a plate is read both ways; the surer text is taken."""

_PICTURES = 16
"""Pictures that a thread takes at once."""
_PIXELS = 16_000_000
"""Or fewer, where they have more pixels than this together."""


@dataclass(frozen=True)
class Plate:
    """A plate of a picture.

    Attributes:
        plate: its text, such as ZH123456; None where there is a plate, but no text that is likely
            enough: a foreign plate, or one that cannot be read.
        canton: the text's first part, or None.
        number: the text's second part, or None.
        confidence: calibrated probability that ``text`` is right, also where ``plate`` is None.
        char_confidences: of the canton and each digit of ``text``, the reader's own.
        box: x1, y1, x2, y2 in pixels of the displayed picture, within it.
        corners: four of x, y, clockwise from the plate's own top left; perhaps outside.
        lines: of the plate, 1 or 2.
        score: the localizer's probability that there is a plate.
        text: what was read, however unlikely.
    """

    plate: str | None
    canton: str | None
    number: str | None
    confidence: float
    char_confidences: tuple[float, ...]
    box: tuple[float, float, float, float]
    corners: tuple[tuple[float, float], ...]
    lines: int
    score: float
    text: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """A place that may be a plate, and what was read there.

    Attributes:
        corners: ``(4, 2)`` in pixels of the displayed picture, clockwise from the plate's top left.
        score: the localizer's.
        lines: 1 or 2.
        reading: the reader's.
        features: ``(F,)`` of src/calibration.py.
        confidence: calibrated probability that the text is right.
    """

    corners: NDArray[np.float64]
    score: float
    lines: int
    reading: Reading
    features: NDArray[np.float64]
    confidence: float


class PlateReader:
    """Reads plates; one object may be used by any number of threads at once.

    Args:
        bundle: the networks, and what is known of them.
        runtime: what runs them.
        threads: that a call computes with, at most.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime, threads: int) -> None:
        self.manifest = bundle.manifest
        self.threshold = bundle.manifest.threshold
        self.runtime: Runtime = runtime
        self.threads = threads
        self._calibration = bundle.calibration
        self._localizer = Network(bundle.localizer, runtime, threads)
        self._reader = Network(bundle.reader, runtime, threads)
        self._workers: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        runtime: Runtime | Literal["auto"] = "auto",
        threads: int | None = None,
    ) -> PlateReader:
        """The reader of a bundle.

        Args:
            path: the bundle's folder; by default the promoted one.
            runtime: "auto" is OpenVINO where it is installed and the processor multiplies bf16, else
                ONNX Runtime.
            threads: that a call computes with; by default as many as there are cores.

        Raises:
            BundleError: the bundle is missing or damaged.
            RuntimeUnavailableError: the runtime is not installed.
        """
        bundle = Bundle.load(path)
        chosen = best_runtime() if runtime == "auto" else runtime
        return cls(bundle, chosen, max(1, threads or available_cores()))

    def read(self, image: Source | Picture, min_confidence: float | None = None) -> list[Plate]:
        """The plates of a picture, the surest first.

        Args:
            image: a path, the bytes of a file, a PIL picture, an array (src/images.py), or what
                ``load_image`` makes of them.
            min_confidence: a text is given from this probability on; by default from the bundle's
                threshold.

        Raises:
            ImageError: the picture cannot be read.
        """
        picture = _loaded(image)
        (candidates,) = self._candidates([picture], together=True)
        return self._plates(picture, candidates, min_confidence)

    def read_batch(
        self, images: Sequence[Source | Picture], min_confidence: float | None = None
    ) -> list[list[Plate]]:
        """The plates of each picture: as ``read``, and faster than one by one."""
        return [
            self._plates(picture, candidates, min_confidence)
            for picture, candidates in self._in_parallel(images)
        ]

    @property
    def rectification(self) -> Rectification:
        """How plates are cut out of a picture: straightened by their corners, or as upright boxes."""
        return self.manifest.reader.rectification

    def read_at(self, image: Source | Picture, corners: FloatArray, lines: int) -> Reading:
        """What the reader makes of a plate whose place is known.

        Args:
            image: as for ``read``.
            corners: ``(4, 2)`` in pixels of the displayed picture, clockwise from the plate's own top
                left.
            lines: of the plate, 1 or 2.

        Raises:
            ImageError: the picture cannot be read.
        """
        crop = _crop(Pyramid(_loaded(image)), np.asarray(corners), lines, self.manifest.reader)
        return decode(self._reader.run(crop[None]))[0]

    def candidates(self, images: Sequence[Source | Picture]) -> list[list[Candidate]]:
        """What ``read_batch`` makes its plates of, to calibrate by, or to see what went wrong."""
        return [candidates for _, candidates in self._in_parallel(images)]

    def _in_parallel(
        self, images: Sequence[Source | Picture]
    ) -> Iterator[tuple[Picture, list[Candidate]]]:
        """Pictures with their candidates, in their order."""
        parts = [images[start : start + _PICTURES] for start in range(0, len(images), _PICTURES)]
        if self.threads == 1 or len(parts) < 2:
            for part in parts:
                yield from self._part(part)
            return
        with self._starting:
            self._workers = self._workers or ThreadPoolExecutor(self.threads, "plates")
        for done in self._workers.map(self._part, parts):
            yield from done

    def _part(self, images: Sequence[Source | Picture]) -> list[tuple[Picture, list[Candidate]]]:
        done: list[tuple[Picture, list[Candidate]]] = []
        waiting: list[Picture] = []
        for number, image in enumerate(images, 1):
            waiting.append(_loaded(image))
            if number == len(images) or sum(each.grey.size for each in waiting) > _PIXELS:
                done += zip(waiting, self._candidates(waiting), strict=True)
                waiting = []
        return done

    def _candidates(
        self, pictures: Sequence[Picture], together: bool = False
    ) -> list[list[Candidate]]:
        """What is found and read in each picture, the surest first."""
        found: list[list[tuple[_Crop, Reading]]] = [[] for _ in pictures]
        large = [i for i, each in enumerate(pictures) if min(each.grey.shape) >= LEAST_SIDE]
        pyramids = [Pyramid(pictures[i]) for i in large]
        detections = find_plates(
            pyramids, partial(self._localizer.run, together=together), self.manifest.localizer
        )
        crops = [
            crop
            for i, pyramid, plates in zip(large, pyramids, detections, strict=True)
            for crop in _crops(i, pyramid, plates, self.manifest.reader)
        ]
        for crop, reading in self._read(crops, together):
            found[crop.picture].append((crop, reading))
        judged = self._judged([pair for pairs in found for pair in pairs])
        candidates = [[next(judged) for _ in pairs] for pairs in found]
        for each in candidates:
            each.sort(key=lambda candidate: -candidate.confidence)
        return candidates

    def _read(self, crops: Sequence[_Crop], together: bool) -> list[tuple[_Crop, Reading]]:
        """The reading of each plate; where there are two crops of it, the surer one."""
        if not crops:
            return []
        pixels = np.stack([crop.pixels for crop in crops])
        best: dict[tuple[int, int], tuple[_Crop, Reading]] = {}
        readings = decode(self._reader.run(pixels, together=together))
        for crop, reading in zip(crops, readings, strict=True):
            plate = (crop.picture, crop.number)
            if plate not in best or reading.confidence > best[plate][1].confidence:
                best[plate] = (crop, reading)
        return list(best.values())

    def _judged(self, read: Sequence[tuple[_Crop, Reading]]) -> Iterator[Candidate]:
        """Candidates with the calibrated probability of their text."""
        if not read:
            return
        values = features(
            [reading.confidence for _, reading in read],
            [min(reading.char_confidences) for _, reading in read],
            [crop.score for crop, _ in read],
            line_height(
                np.stack([crop.corners for crop, _ in read]), [crop.lines for crop, _ in read]
            ),
        )
        confidences = self._calibration.probability(values).tolist()
        for (crop, reading), row, confidence in zip(read, values, confidences, strict=True):
            yield Candidate(crop.corners, crop.score, crop.lines, reading, row, confidence)

    def _plates(
        self, picture: Picture, candidates: Sequence[Candidate], min_confidence: float | None
    ) -> list[Plate]:
        least = self.threshold if min_confidence is None else min_confidence
        return [
            _plate(picture, candidate, candidate.confidence >= least)
            for candidate in candidates
            if candidate.confidence >= least or candidate.score >= SURE
        ]


@dataclass(frozen=True, eq=False)
class _Crop:
    """What the reader gets to see of a plate.

    Attributes:
        picture: number of the picture.
        number: of the plate in it.
        corners: ``(4, 2)`` in pixels of the displayed picture.
        score: the localizer's.
        lines: that it was cut as.
        pixels: ``(h, w)`` uint8.
    """

    picture: int
    number: int
    corners: NDArray[np.float64]
    score: float
    lines: int
    pixels: Pixels


def _crops(
    picture: int, pyramid: Pyramid, plates: Detections, reader: ReaderEntry
) -> Iterator[_Crop]:
    """One crop of each plate, or two where it is not sure how many lines it has."""
    for number, (corners, score, two_lines) in enumerate(
        zip(plates.corners, plates.score.tolist(), plates.two_lines.tolist(), strict=True)
    ):
        ways = [2 if two_lines > 0.5 else 1]
        if reader.rectification == "corners" and ONE_LINE < two_lines < TWO_LINES:
            ways = [1, 2]
        for lines in ways:
            pixels = _crop(pyramid, corners, lines, reader)
            yield _Crop(picture, number, corners, score, lines, pixels)


def _crop(pyramid: Pyramid, corners: FloatArray, lines: int, reader: ReaderEntry) -> Pixels:
    """A plate as the reader takes it, ``(h, w)``, of corners in pixels of the displayed picture."""
    image, scale = pyramid.nearest_above(_reduction(corners, lines, reader.input_shape))
    return reader_crop(image, corners / scale, reader.rectification, reader.input_shape, lines)


def _reduction(corners: FloatArray, lines: int, shape: tuple[int, int, int]) -> float:
    """By what a plate may be reduced so that it is still as large as the reader's input."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners.tolist()
    width = (hypot(bx - ax, by - ay) + hypot(cx - dx, cy - dy)) / 2
    height = (hypot(dx - ax, dy - ay) + hypot(cx - bx, cy - by)) / 2
    return min(width / shape[2], height / lines / shape[1])


def _loaded(image: Source | Picture) -> Picture:
    return image if isinstance(image, Picture) else load_image(image)


def _plate(picture: Picture, candidate: Candidate, is_read: bool) -> Plate:
    text = candidate.reading.text
    xs = [min(max(x, 0.0), float(picture.width)) for x in candidate.corners[:, 0].tolist()]
    ys = [min(max(y, 0.0), float(picture.height)) for y in candidate.corners[:, 1].tolist()]
    return Plate(
        plate=text if is_read else None,
        canton=text[:2] if is_read else None,
        number=text[2:] if is_read else None,
        confidence=candidate.confidence,
        char_confidences=candidate.reading.char_confidences,
        box=(min(xs), min(ys), max(xs), max(ys)),
        corners=tuple((x, y) for x, y in candidate.corners.tolist()),
        lines=candidate.lines,
        score=candidate.score,
        text=text,
    )
