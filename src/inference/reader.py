"""Find and read the number plates in any image with an exported bundle, without torch.

    reader = PlateReader.load()
    for plate in reader.read("car.jpg"):
        print(plate.plate, plate.confidence)

Each plate that the localizer finds is rectified, read by the recognizer, and given a calibrated probability.
Its text is returned where that reaches the threshold.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.geometry import FloatArray, Rectification
from ..core.images import DecodedImage, ImageWarning, Source, load_image
from ..core.layout import Format
from ..core.machine import available_cores
from ..engine.threads import map_in_order
from .bundle import Bundle
from .calibration import LIMIT, features, line_height
from .colour import Colour, colour_features
from .decoding import Reading, decode, most_likely
from .detection import SURE
from .finder import find_plates, other_corners, usual_sizes
from .layout import Reason, plate_format, reason_without_text
from .pyramid import Pyramid
from .recognizer import Place, cut, read_places
from .runtimes import Network, Runtime, best_runtime

_IMAGES = 16
"""Maximum number of images that a thread reads together."""
_PIXELS = 16_000_000
"""Maximum number of pixels of these images together, beyond which they are read in parts."""


@dataclass(frozen=True)
class Plate:
    """A plate in an image.

    Attributes:
        plate: Text of the plate, such as ZH123456; None where no text is probable enough, as on a foreign
            plate or one that cannot be read.
        canton: Canton code of the text, or None.
        number: Digits of the text, or None.
        confidence: Calibrated probability that ``text`` is right, also where ``plate`` is None.
        char_confidences: Probabilities that the recognizer gives to the canton and to each digit of ``text``.
        box: x1, y1, x2, y2 in pixels of the displayed image, clipped to it.
        corners: Four (x, y) in pixels of the displayed image, clockwise from the plate's own top left;
            they may lie outside of the image.
        lines: Number of text lines, 1 or 2.
        score: Probability that the localizer gives to the plate.
        text: Most probable text, however improbable.
        format: Format: "front", "rear_long", "rear_high", "motorcycle" or "moped"; None for a plate that
            is not Swiss, and where the bundle does not tell formats.
        reason: Why ``plate`` is None: "incomplete" where a character is hidden or outside of the image,
            "not_swiss", or "unreadable"; None where there is a text.
        colour: Colour of the ground: "white", "blue", "brown", "green", "yellow", "red", "black", or
            "other" for one with a field of another colour, as of diplomats; None where no colour can be
            told, as in a grey or an infrared image, and where the bundle does not tell colours.
        colour_confidence: Calibrated probability of the colour; None without one.
        alternatives: The most probable texts with their calibrated probabilities, which sum to at most 1,
            the most probable first; only as many as were asked for.
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
    format: Format | None = None
    reason: Reason | None = None
    colour: Colour | None = None
    colour_confidence: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Candidate:
    """A detection that may be a plate, with its reading.

    Attributes:
        corners: ``(4, 2)`` in pixels of the displayed image, clockwise from the plate's own top left.
        score: Score of the localizer.
        lines: Number of text lines, 1 or 2.
        reading: Text and confidences of the recognizer.
        features: ``(F,)`` inputs of the calibration (src/inference/calibration.py).
        confidence: Calibrated probability that the text is right.
    """

    corners: NDArray[np.float64]
    score: float
    lines: int
    reading: Reading
    features: NDArray[np.float64]
    confidence: float


@dataclass(frozen=True)
class StreamResult:
    """What ``PlateReader.stream`` yields for an image.

    Attributes:
        source: The image as it was given.
        plates: Its plates, sorted by descending confidence; none where there is an error.
        error: Why it could not be read; None where it was.
        warnings: What is wrong with its file, though it was read, such as a missing end.
    """

    source: Source | DecodedImage | Exception
    plates: tuple[Plate, ...] = ()
    error: Exception | None = None
    warnings: tuple[str, ...] = ()


Search = Literal["standard", "full"]
"""How an image is searched: at reduced sizes, or at full resolution too."""


@dataclass(frozen=True)
class _Ask:
    """What is asked of each image; ``PlateReader.read`` documents the fields."""

    min_confidence: float | None = None
    alternatives: int = 0
    search: Search = "standard"

    def __post_init__(self) -> None:
        if self.search not in get_args(Search):
            raise ValueError(f"search must be one of {get_args(Search)}, not {self.search!r}")

    @property
    def full(self) -> bool:
        """Whether to search at full resolution."""
        return self.search == "full"


class PlateReader:
    """Reads number plates; one object may be used by any number of threads at once.

    ``PlateReader.load`` makes one from the promoted bundle.

    Args:
        bundle: Networks with their manifest and calibration.
        runtime: Inference runtime that executes the networks.
        threads: Maximum number of threads used per call.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime, threads: int) -> None:
        self.manifest = bundle.manifest
        self.threshold = bundle.manifest.threshold
        self.runtime: Runtime = runtime
        self.threads = threads
        self._calibration = bundle.calibration
        self._colours = bundle.colours
        localizer, recognizer = self.manifest.localizer, self.manifest.recognizer
        finds, reads = bundle.networks(runtime == "onnxruntime-int8")
        self._localizer = Network(finds, runtime, threads, usual_sizes(localizer))
        self._reader = Network(reads, runtime, threads, [recognizer.input_shape[1:]])

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        runtime: Runtime | Literal["auto"] = "auto",
        threads: int | None = None,
    ) -> PlateReader:
        """Load a bundle.

        Args:
            path: Folder of the bundle; by default the promoted one.
            runtime: "auto" is OpenVINO where it is installed and the CPU has AMX-BF16, else ONNX Runtime
                with int8 models where the bundle has them and the CPU has instructions for them.
            threads: Maximum number of threads used per call; by default the number of available cores.

        Raises:
            BundleError: The bundle is missing or damaged, or has no networks for the runtime.
            RuntimeUnavailableError: The runtime is not installed.
        """
        bundle = Bundle.load(path)
        chosen = best_runtime(bundle.has_int8) if runtime == "auto" else runtime
        return cls(bundle, chosen, max(1, threads or available_cores()))

    def read(
        self,
        image: Source | DecodedImage,
        min_confidence: float | None = None,
        *,
        alternatives: int = 0,
        search: Search = "standard",
    ) -> list[Plate]:
        """Return the plates of an image, sorted by descending confidence.

        Args:
            image: A path, the bytes of an image file, a PIL image, an array (src/core/images.py), or the
                result of ``load_image``.
            min_confidence: Probability from which on a text is returned; by default the threshold of the
                bundle.
            alternatives: Maximum number of alternative texts of each plate.
            search: "full" also searches tiles at full resolution, for small plates in large photos; it
                takes about fifteen times as long on a frame of 3840 x 2160 pixels.

        Raises:
            ImageError: The image cannot be read.

        Warns:
            ImageWarning: The image is read, though its file lacks its last bytes or has others before its
                start.
        """
        ask = _Ask(min_confidence, alternatives, search)
        loaded = _loaded_with_warnings(image)
        (candidates,) = self._candidates([loaded], together=True, full=ask.full)
        return self._plates(loaded, candidates, ask)

    def read_batch(
        self, images: Sequence[Source | DecodedImage], min_confidence: float | None = None
    ) -> list[list[Plate]]:
        """Return the plates of each image, as ``read`` does, faster than one by one.

        Raises:
            ImageError: An image cannot be read; ``stream`` goes on after such images.
        """
        return [
            self._plates(loaded, candidates, _Ask(min_confidence))
            for loaded, candidates in self._in_parallel(images)
        ]

    def stream(
        self,
        images: Iterable[Source | DecodedImage | Exception],
        min_confidence: float | None = None,
        *,
        alternatives: int = 0,
        search: Search = "standard",
    ) -> Iterator[StreamResult]:
        """Read any number of images with bounded memory; results keep the order of the images.

        A result is yielded as soon as it and all before it are there, also where the next image takes
        long to come. An image that cannot be read gives a result with an error, and the others are read.

        Args:
            images: Images as for ``read``, consumed in a thread of its own. An exception among them
                becomes the error of its result: so whoever makes the images can report a failure.
            min_confidence: As for ``read``.
            alternatives: As for ``read``.
            search: As for ``read``.

        Raises:
            Exception: Whatever the iterable itself raises, after the results before it.
        """
        return map_in_order(
            partial(self._results, ask=_Ask(min_confidence, alternatives, search)),
            images,
            self.threads,
            _IMAGES,
        )

    def _results(
        self,
        images: list[Source | DecodedImage | Exception],
        ask: _Ask,
    ) -> list[StreamResult]:
        results = [StreamResult(image) for image in images]
        waiting: dict[int, DecodedImage] = {}

        def read_waiting() -> None:
            read = self._read_or_fail([*waiting.values()], ask)
            for i, (plates, error) in zip(waiting, read, strict=True):
                results[i] = StreamResult(
                    images[i], tuple(plates), error, () if error else waiting[i].warnings
                )
            waiting.clear()

        for i, image in enumerate(images):
            if isinstance(image, Exception):
                results[i] = StreamResult(image, error=image)
                continue
            try:
                waiting[i] = _loaded(image)
            except UserError as error:
                results[i] = StreamResult(image, error=error)
            if sum(loaded.grey.size for loaded in waiting.values()) > _PIXELS:
                read_waiting()
        read_waiting()
        return results

    def _read_or_fail(
        self,
        loaded_images: Sequence[DecodedImage],
        ask: _Ask,
    ) -> list[tuple[Sequence[Plate], Exception | None]]:
        """Plates of each image, or the error that reading it alone ends with."""
        try:
            # Where there is one image alone, all cores may help.
            alone = len(loaded_images) == 1
            found = self._candidates(loaded_images, together=alone, full=ask.full)
            return [
                (self._plates(loaded, candidates, ask), None)
                for loaded, candidates in zip(loaded_images, found, strict=True)
            ]
        except Exception as error:
            # A fault of this program, which must not keep the others from being read.
            if len(loaded_images) == 1:
                return [((), error)]
            return [pair for loaded in loaded_images for pair in self._read_or_fail([loaded], ask)]

    @property
    def rectification(self) -> Rectification:
        """How plates are cropped: rectified by their corners, or as upright boxes."""
        return self.manifest.recognizer.rectification

    def read_at(self, image: Source | DecodedImage, corners: FloatArray, lines: int) -> Reading:
        """Read a plate whose corners are known.

        Args:
            image: Image as for ``read``.
            corners: ``(4, 2)`` in pixels of the displayed image, clockwise from the plate's own top left.
            lines: Number of text lines, 1 or 2.

        Raises:
            ImageError: The image cannot be read.
        """
        crop = cut(
            Pyramid(_loaded_with_warnings(image)),
            np.asarray(corners),
            lines,
            self.manifest.recognizer,
        )
        return decode(self._reader.run(crop[None]))[0]

    def candidates(
        self, images: Sequence[Source | DecodedImage], search: Search = "standard"
    ) -> list[list[Candidate]]:
        """Return all detections with their readings, also improbable ones.

        Args:
            images: Images as for ``read``.
            search: As for ``read``.
        """
        full = _Ask(search=search).full
        return [candidates for _, candidates in self._in_parallel(images, full)]

    def _in_parallel(
        self, images: Sequence[Source | DecodedImage], full: bool = False
    ) -> Iterator[tuple[DecodedImage, list[Candidate]]]:
        """Yield images with their candidates, in order."""
        # Few images are divided too, so that all cores work on them.
        size = max(1, min(_IMAGES, -(-len(images) // self.threads)))
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        if self.threads == 1 or len(parts) < 2:
            for part in parts:
                yield from self._part(part, full)
            return
        yield from chain.from_iterable(
            map_in_order(
                lambda batch: [self._part(part, full) for part in batch], parts, self.threads
            )
        )

    def _part(
        self, images: Sequence[Source | DecodedImage], full: bool = False
    ) -> list[tuple[DecodedImage, list[Candidate]]]:
        done: list[tuple[DecodedImage, list[Candidate]]] = []
        waiting: list[DecodedImage] = []
        for number, image in enumerate(images, 1):
            waiting.append(_loaded_with_warnings(image))
            if number == len(images) or sum(each.grey.size for each in waiting) > _PIXELS:
                done += zip(waiting, self._candidates(waiting, full=full), strict=True)
                waiting = []
        return done

    def _candidates(
        self, images: Sequence[DecodedImage], together: bool = False, full: bool = False
    ) -> list[list[Candidate]]:
        """Find and read plates in each image; candidates are sorted by descending confidence."""
        pyramids = [Pyramid(image) for image in images]
        run = partial(self._localizer.run, together=together)
        detections = find_plates(pyramids, run, self.manifest.localizer, full)
        places = [
            (i, Place(pyramid, *plate))
            for i, (pyramid, plates) in enumerate(zip(pyramids, detections, strict=True))
            for plate in zip(
                plates.corners, plates.score.tolist(), plates.two_lines.tolist(), strict=True
            )
        ]
        judged = self._judged([place for _, place in places], together)
        candidates: list[list[Candidate]] = [[] for _ in images]
        for (i, _), candidate in zip(places, judged, strict=True):
            candidates[i].append(candidate)
        for each in candidates:
            each.sort(key=lambda candidate: -candidate.confidence)
        return candidates

    def _judged(self, places: Sequence[Place], together: bool) -> list[Candidate]:
        """Read places, with the calibrated probability that each text is right."""
        if not places:
            return []
        read = read_places(
            places,
            partial(self._reader.run, together=together),
            partial(
                other_corners,
                localize=partial(self._localizer.run, together=together),
                localizer=self.manifest.localizer,
            ),
            self.manifest.recognizer,
        )
        values = features(
            [reading.confidence for reading, _ in read],
            [min(reading.char_confidences) for reading, _ in read],
            [place.score for place in places],
            line_height(
                np.stack([place.corners for place in places]), [lines for _, lines in read]
            ),
            [reading.complete for reading, _ in read],
        )
        confidences = self._calibration.probability(values).tolist()
        return [
            Candidate(place.corners, place.score, lines, reading, row, confidence)
            for place, (reading, lines), row, confidence in zip(
                places, read, values, confidences, strict=True
            )
        ]

    def _plates(
        self,
        image: DecodedImage,
        candidates: Sequence[Candidate],
        ask: _Ask,
    ) -> list[Plate]:
        least = self.threshold if ask.min_confidence is None else ask.min_confidence
        kept = [
            candidate
            for candidate in candidates
            if candidate.confidence >= least or candidate.score >= SURE
        ]
        plates = []
        for candidate in kept:
            plate = _plate(image, candidate, candidate.confidence >= least)
            if ask.alternatives:
                others = self._alternatives(image, candidate, ask.alternatives)
                plate = replace(plate, alternatives=others)
            plates.append(plate)
        return self._coloured(image, plates, kept)

    def _coloured(
        self, image: DecodedImage, plates: list[Plate], candidates: Sequence[Candidate]
    ) -> list[Plate]:
        """Return the plates of an image with their colours; each is of the candidate at its place."""
        if self._colours is None:
            return plates
        values = colour_features(
            image,
            [candidate.corners for candidate in candidates],
            [candidate.confidence for candidate in candidates],
            [candidate.reading for candidate in candidates],
        )
        if values is None:
            return plates
        return [
            replace(plate, colour=colour, colour_confidence=confidence)
            for plate, (colour, confidence) in zip(
                plates, self._colours.colours(values), strict=True
            )
        ]

    def _alternatives(
        self, image: DecodedImage, candidate: Candidate, count: int
    ) -> tuple[tuple[str, float], ...]:
        """Return the most probable texts of a plate, the one that was read first.

        Its probability is the calibrated one. What is left of 1 goes to the other texts in proportion to
        the recognizer's probabilities; texts that are not among them keep their part of it.
        """
        crop = cut(Pyramid(image), candidate.corners, candidate.lines, self.manifest.recognizer)
        best = candidate.reading.text
        found = [
            item for item in most_likely(self._reader.run(crop[None])[0], count) if item[0] != best
        ]
        known = min(candidate.reading.confidence, 1 - LIMIT)
        total = max(sum(chance for _, chance in found), 1 - known)
        left = 1 - candidate.confidence
        others = [(text, left * chance / total) for text, chance in found]
        return ((best, candidate.confidence), *others)[:count]


def _loaded(image: Source | DecodedImage) -> DecodedImage:
    return image if isinstance(image, DecodedImage) else load_image(image)


def _loaded_with_warnings(image: Source | DecodedImage) -> DecodedImage:
    loaded = _loaded(image)
    if loaded is not image:
        for text in loaded.warnings:
            warnings.warn(text, ImageWarning, stacklevel=3)
    return loaded


def _plate(image: DecodedImage, candidate: Candidate, is_read: bool) -> Plate:
    text = candidate.reading.text
    xs = [min(max(x, 0.0), float(image.width)) for x in candidate.corners[:, 0].tolist()]
    ys = [min(max(y, 0.0), float(image.height)) for y in candidate.corners[:, 1].tolist()]
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
        format=plate_format(candidate.reading, candidate.corners, candidate.lines),
        reason=None if is_read else reason_without_text(candidate.reading.layout),
    )
