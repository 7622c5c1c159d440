"""Figures of events on drawn clips, and the calibration of an event's confidence.

    python bench/video.py [--vehicles 500] [--height 720] [--fps 25 8 5] [--seed 0] [--workers N]
                          [--keep DIR] [--model DIR] [--fit]

Draws clips from the seed, encodes each with ffmpeg at its constant rate factor, and reads each frame once.
Then events are made of them at each rate, by the sum of calibrated probabilities and by three simpler votes:
the first text, the surest one, and the most frequent one. Prints a JSON object a line: by rate and vote, by
rate factor, by kind of clip, and the CPU time that a second of video takes at 8 frames a second.

An event is right if its text is that of a vehicle in the clip that has no event yet. Precision is the share
of right events among those with a text, recall that of vehicles with a right event among those whose plate is
clear long enough (src/generators/clips.py). Those that are clear for a shorter time count in neither.

With --fit, clips of another seed are drawn instead, and src/video/confidence.json is written: the weights of
the calibration, and the lowest threshold at which few enough events have a wrong text.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.config import load_config
from src.core.errors import UserError
from src.core.intervals import wilson
from src.core.machine import available_cores
from src.core.provenance import machine
from src.generators.atlas import Atlas
from src.generators.clips import KINDS, Clip, draw_clip, frame_size
from src.generators.footage import Footage, write_clip
from src.inference.calibration import choose_threshold
from src.inference.reader import Plate, PlateReader
from src.video.confidence import FEATURES, FILE, EventCalibration, event_calibration, event_features
from src.video.events import Event
from src.video.motion import MotionGate
from src.video.settings import Settings, SourceSpec
from src.video.sources import Frame, VideoFile
from src.video.tracks import Track, Tracker, distinct
from src.video.vote import Sighting, Vote
from src.video.watcher import ReadFrame, Watcher, Watching, read_with

FIT_SEED = 10_000
"""Added to the seed of the clips that the calibration is fitted on."""
WRONG_SHARE = 0.004
"""Maximum fraction of the fitted events that may have a wrong text; the goal is 0.005."""
LEAST_OF_A_KIND = 8
"""Minimum number of right and of wrong votes to fit on."""
EARLY = (1, 2, 4, 8)
"""Numbers of sightings after which a vote is fitted on too."""
SPEED_FPS = 8.0
SPEED_CLIPS = 6
"""Number of clips that the CPU time is measured on."""


# Simpler votes to compare with


class FirstText(Vote):
    """The first text that the reader gives."""

    chosen = ""

    def add(self, sighting: Sighting) -> None:
        super().add(sighting)
        self.chosen = self.chosen or sighting.plate.plate or ""

    @property
    def text(self) -> str:
        return self.chosen


class SurestText(Vote):
    """The text of the reading with the highest probability."""

    chosen, highest = "", 0.0

    def add(self, sighting: Sighting) -> None:
        super().add(sighting)
        plate = sighting.plate
        if plate.plate is not None and plate.confidence > self.highest:
            self.chosen, self.highest = plate.plate, plate.confidence

    @property
    def text(self) -> str:
        return self.chosen


class Majority(Vote):
    """The text that most readings give."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def add(self, sighting: Sighting) -> None:
        super().add(sighting)
        if sighting.plate.plate is not None:
            self.counts[sighting.plate.plate] += 1

    @property
    def text(self) -> str:
        return max(self.counts, key=self.counts.__getitem__, default="")


class AnyText(EventCalibration, frozen=True):
    """Takes any text; one that more readings stand for is better."""

    def is_given(self, vote: Vote, probability: float) -> bool:
        return bool(vote.text)

    def probability(self, vote: Vote) -> float:
        return 1 - 1 / (1 + vote.reads) if vote.text else 0.0


VOTES: dict[str, Callable[[], Vote]] = {
    "sum": Vote,
    "first": FirstText,
    "surest": SurestText,
    "majority": Majority,
}


# Clips


class Judged(NamedTuple):
    """A vote, when its vehicle has gone or before.

    Attributes:
        features: Features of the vote.
        is_right: Whether its text is that of a vehicle in the clip.
        is_event: Whether its vehicle has gone and a text was read, so that it may be an event.
    """

    features: list[float]
    is_right: bool
    is_event: bool


@dataclass(frozen=True)
class Task:
    """A clip to be drawn and read.

    Attributes:
        seed: Random seed.
        index: Number of the clip.
        height: Height of its frames in pixels.
        fps: Rates that it is looked at.
        folder: Folder that the clip and its readings are kept in.
        model: Folder of the bundle; None for the promoted one.
        is_fit: Whether votes are wanted instead of events.
    """

    seed: int
    index: int
    height: int
    fps: tuple[float, ...]
    folder: Path
    model: Path | None
    is_fit: bool


@dataclass
class Outcome:
    """What came of a clip.

    Attributes:
        truth: Its ground truth, as written beside it.
        events: Events with a text by rate and vote, the last revision of each, with the second at which it
            was given.
        votes: What the calibration is fitted on.
    """

    truth: dict[str, Any]
    events: dict[tuple[float, str], list[tuple[Event, float]]] = field(default_factory=dict)
    votes: list[Judged] = field(default_factory=list)


_READERS: dict[Path | None, PlateReader] = {}
_ATLAS: list[Atlas] = []


def reader_of(model: Path | None) -> PlateReader:
    """Return the reader of this process, which computes in one thread."""
    if model not in _READERS:
        _READERS[model] = PlateReader.load(model, threads=1)
    return _READERS[model]


def clip_of(seed: int, index: int, height: int) -> Clip:
    """Return the contents of a clip, with the plates of the pipeline's parameters."""
    params = load_config().StreetPlateParams
    if not _ATLAS:
        _ATLAS.append(Atlas(params, 0))
    return draw_clip(params, _ATLAS[0], seed, index, frame_size(height))


class Readings:
    """Readings of a clip's frames, each made once and kept in a file beside the clip.

    Args:
        path: File of the clip.
        reader: Reader of its frames.
    """

    def __init__(self, path: Path, reader: PlateReader) -> None:
        revision = reader.manifest.git_revision or "unknown"
        self._file = path.with_suffix(f".{revision[:12]}.readings.json")
        self._read = read_with(reader)
        self._known: dict[str, list[Plate]] = {}
        if self._file.exists():
            self._known = msgspec.json.decode(self._file.read_bytes(), type=dict[str, list[Plate]])

    def __call__(self, frame: Frame) -> Sequence[Plate]:
        key = f"{frame.time:.3f}"
        if key not in self._known:
            self._known[key] = list(self._read(frame))
        return self._known[key]

    def save(self) -> None:
        """Write the file."""
        self._file.write_bytes(msgspec.json.encode(self._known))


def work(task: Task) -> Outcome:
    """Draw, encode and read a clip; return what came of it."""
    cv2.setNumThreads(1)
    path = task.folder / f"{task.seed}-{task.index}-{task.height}.mp4"
    if not path.exists():
        write_clip(Footage(clip_of(task.seed, task.index, task.height)), path)
    readings = Readings(path, reader_of(task.model))
    outcome = Outcome(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    for fps in task.fps:
        if task.is_fit:
            outcome.votes += votes_of(path, fps, readings, outcome.truth)
        else:
            outcome.events.update(events_of(path, fps, readings))
    readings.save()
    return outcome


def events_of(
    path: Path, fps: float, read: ReadFrame
) -> dict[tuple[float, str], list[tuple[Event, float]]]:
    """Return the events with a text of a clip by each vote, and when they were given."""
    any_text = AnyText(**msgspec.structs.asdict(event_calibration()))
    watchers = {
        name: Watcher(
            path.name,
            read,
            Settings(fps=fps),
            calibration=None if name == "sum" else any_text,
            new_vote=vote,
        )
        for name, vote in VOTES.items()
    }
    given: dict[str, dict[str, tuple[Event, float]]] = {name: {} for name in VOTES}

    def note(name: str, events: Iterable[Event], second: float) -> None:
        for event in events:
            given[name][event.id] = (event, second)

    second = 0.0
    for frame in VideoFile(str(path)).frames(fps, threading.Event()):
        if frame is not None:
            second = frame.time
            for name, watcher in watchers.items():
                note(name, watcher.feed(frame), second)
    for name, watcher in watchers.items():
        note(name, watcher.finish(), second)
    return {(fps, name): [*events.values()] for name, events in given.items()}


def votes_of(path: Path, fps: float, read: ReadFrame, truth: dict[str, Any]) -> list[Judged]:
    """Return the votes of a clip: those of its vehicles, and the same after a few sightings only.

    Hardly any vehicle that was seen to the end has a wrong text, so that there would be nothing to fit on.
    """
    gate, tracker = MotionGate(), Tracker()
    texts = {vehicle["text"] for vehicle in truth["vehicles"]} - {""}
    early: dict[tuple[int, int], Judged] = {}
    gone: list[Track] = []
    for frame in VideoFile(str(path)).frames(fps, threading.Event()):
        if frame is None:
            continue
        if gate.opens(frame.image):
            gone += tracker.update(frame.time, distinct(read(frame)))
        else:
            gone += tracker.remain(frame.time)
        for track in tracker.tracks:
            key = (track.number, track.vote.sightings)
            if key[1] in EARLY and key not in early:
                early[key] = _judged(track, texts, False)
    gone += tracker.close()
    return [*early.values(), *(_judged(track, texts, track.vote.reads > 0) for track in gone)]


def _judged(track: Track, texts: set[str], is_event: bool) -> Judged:
    return Judged(event_features(track.vote).tolist(), track.vote.text in texts, is_event)


# Scores


@dataclass
class Score:
    """Counts over clips.

    Attributes:
        vehicles: Number of vehicles whose plate is clear long enough.
        found: Number of these with a right event.
        events: Number of events with a text, but for those of plates that are clear too shortly.
        wrong: Number of events whose text is that of no vehicle in the clip.
        repeated: Number of right events beyond the first of a vehicle.
        directed: Number of vehicles found whose event has the right direction.
        delays: Seconds from the first moment at which the plate is clear to the event.
    """

    vehicles: int = 0
    found: int = 0
    events: int = 0
    wrong: int = 0
    repeated: int = 0
    directed: int = 0
    delays: list[float] = field(default_factory=list)

    def add(self, truth: dict[str, Any], events: Sequence[tuple[Event, float]]) -> None:
        """Count the events of a clip."""
        open_texts = {
            vehicle["text"]: vehicle for vehicle in truth["vehicles"] if vehicle["expected"]
        }
        texts = {vehicle["text"] for vehicle in truth["vehicles"]} - {""}
        self.vehicles += len(open_texts)
        expected = set(open_texts)
        for event, second in events:
            if event.plate is None:
                continue
            if event.plate in open_texts:
                vehicle = open_texts.pop(event.plate)
                self.found += 1
                self.directed += event.direction == vehicle["direction"]
                self.delays.append(max(second - vehicle["clear"][0], 0.0))
            elif event.plate in expected:
                self.repeated += 1
            elif event.plate in texts:
                continue
            else:
                self.wrong += 1
            self.events += 1

    def row(self) -> dict[str, Any]:
        """Return the figures."""
        precision = self.found / self.events if self.events else 0.0
        recall = self.found / self.vehicles if self.vehicles else 0.0
        both = precision + recall
        low, high = wilson(self.wrong, self.events)
        return {
            "vehicles": self.vehicles,
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / both, 4) if both else 0.0,
            "wrong": round(self.wrong / self.events, 4) if self.events else 0.0,
            "wrong_95": [round(low, 4), round(high, 4)],
            "events_per_vehicle": round((self.found + self.repeated) / self.found, 3)
            if self.found
            else None,
            "direction": round(self.directed / self.found, 3) if self.found else None,
            "delay_s": {
                "median": round(statistics.median(self.delays), 2),
                "p95": round(float(np.quantile(self.delays, 0.95)), 2),
            }
            if self.delays
            else None,
        }


def figures(outcomes: Sequence[Outcome], rates: Sequence[float]) -> list[dict[str, Any]]:
    """Return the rows: by rate and vote, then at one rate by rate factor and by kind of clip."""

    def score(fps: float, vote: str, chosen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        total = Score()
        for outcome in outcomes:
            if chosen(outcome.truth):
                total.add(outcome.truth, outcome.events[fps, vote])
        return total.row()

    rows: list[dict[str, Any]] = [
        {"fps": fps, "vote": vote, **score(fps, vote, lambda _: True)}
        for fps in rates
        for vote in VOTES
    ]
    usual = SPEED_FPS if SPEED_FPS in rates else rates[0]
    for key in ("crf", "kind"):
        values = sorted({outcome.truth[key] for outcome in outcomes})
        for vote in VOTES if key == "crf" else ("sum",):
            for value in values:
                of_value = score(usual, vote, lambda truth: truth[key] == value)  # noqa: B023  # used at once
                rows.append({"fps": usual, "vote": vote, key: value, **of_value})
    return rows


# Speed


def speed(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return the CPU time for a second of video, on clips with a vehicle in at least half of their frames."""
    cv2.setNumThreads(1)
    cpu = seconds = 0.0
    frames = read = count = 0
    reader = reader_of(tasks[0].model)
    for task in tasks:
        clip = clip_of(task.seed, task.index, task.height)
        present = sum(any(seen is not None for seen in clip.seen(i)) for i in range(len(clip)))
        path = task.folder / f"{task.seed}-{task.index}-{task.height}.mp4"
        if present < len(clip) / 2 or not path.exists():
            continue
        spec = SourceSpec(path.name, str(path), Settings(fps=SPEED_FPS))
        watching = Watching(spec, read_with(reader), print)
        if not count:
            # The first pass loads what the others find loaded.
            for _ in watching:
                pass
        begin = time.process_time()
        for _ in watching:
            pass
        cpu += time.process_time() - begin
        seconds += clip.seconds
        frames += watching.counts.frames
        read += watching.counts.read
        count += 1
        if count == SPEED_CLIPS:
            break
    return {
        "fps": SPEED_FPS,
        "clips": count,
        "video_s": round(seconds, 1),
        "frames_read": round(read / frames, 3) if frames else None,
        "cpu_per_video_s": round(cpu / seconds, 3) if seconds else None,
        "runtime": reader.runtime,
        "machine": machine(),
    }


# Calibration


def fit(votes: Sequence[Judged], bundle: str, command: str) -> EventCalibration:
    """Fit the calibration by logistic regression; a feature with a negative weight is left out.

    Raises:
        UserError: There are too few votes, or no events.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.array([vote.features for vote in votes])
    right = np.array([vote.is_right for vote in votes], bool)
    events = np.array([vote.is_event for vote in votes], bool)
    if min(right.sum(), (~right).sum()) < LEAST_OF_A_KIND or not events.any():
        raise UserError(
            f"of {len(right)} votes {right.sum()} are right; at least {LEAST_OF_A_KIND} right and as many "
            "wrong ones are needed, and an event: raise --vehicles"
        )
    used = [*range(len(FEATURES))]
    while True:
        mean, scale = values[:, used].mean(axis=0), values[:, used].std(axis=0) + 1e-9
        model = LogisticRegression(max_iter=1000).fit((values[:, used] - mean) / scale, right)
        found = model.coef_[0] / scale
        if (found >= 0).all():
            break
        del used[int(found.argmin())]
    weights = np.zeros(len(FEATURES))
    weights[used] = found
    intercept = float(model.intercept_[0] - found @ mean)
    probability = 1 / (1 + np.exp(-(values @ weights + intercept)))
    wrong = np.where(right, 0.0, probability)[events]
    threshold = choose_threshold(wrong, WRONG_SHARE).value
    return EventCalibration(
        features=FEATURES,
        weights=tuple(round(value, 6) for value in weights.tolist()),
        intercept=round(intercept, 6),
        threshold=threshold,
        events=int(events.sum()),
        right=int((right & events).sum()),
        bundle=bundle,
        command=command,
    )


# The command


def tasks_of(options: argparse.Namespace, folder: Path) -> list[Task]:
    """Return the clips that have as many vehicles as asked for."""
    # Each round of all kinds has one vehicle a clip, and two in one of them.
    rounds = -(-options.vehicles // (len(KINDS) + 1))
    seed = options.seed + (FIT_SEED if options.fit else 0)
    return [
        Task(seed, i, options.height, tuple(options.fps), folder, options.model, options.fit)
        for i in range(rounds * len(KINDS))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--vehicles", type=int, default=500, metavar="N")
    parser.add_argument("--height", type=int, default=720, help="height of frames in pixels")
    parser.add_argument("--fps", type=float, nargs="+", default=[25.0, 8.0, 5.0], metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=available_cores(), metavar="N")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep clips and readings in DIR, and use those there",
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of the bundle")
    parser.add_argument("--fit", action="store_true", help="fit the calibration and write it")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    made = tempfile.TemporaryDirectory() if options.keep is None else nullcontext(options.keep)
    with made as folder:
        tasks = tasks_of(options, Path(folder))
        outcomes = _outcomes(tasks, options.workers)
        if options.fit:
            votes = [vote for outcome in outcomes for vote in outcome.votes]
            revision = reader_of(options.model).manifest.git_revision or ""
            # Where clips are kept, and by how many they are read, changes nothing.
            rates = " ".join(f"{rate:g}" for rate in options.fps)
            command = (
                f"python bench/video.py --fit --vehicles {options.vehicles} "
                f"--height {options.height} --fps {rates} --seed {options.seed}"
            )
            calibration = fit(votes, revision, command)
            text = json.dumps(msgspec.to_builtins(calibration), indent=2)
            temporary = FILE.with_name(f".{FILE.name}.partial")
            temporary.write_text(f"{text}\n", encoding="utf-8")
            temporary.replace(FILE)
            print(text)
            return
        for row in figures(outcomes, options.fps):
            print(json.dumps(row))
        print(json.dumps(speed(tasks)))


def _outcomes(tasks: Sequence[Task], workers: int) -> list[Outcome]:
    if workers == 1:
        return list(_shown(map(work, tasks), len(tasks)))
    # Started anew, since ONNX Runtime's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return list(_shown(pool.imap(work, tasks), len(tasks)))


def _shown(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    yield from tqdm(outcomes, total=total, unit=" clips")


if __name__ == "__main__":
    try:
        main()
    except UserError as _error:
        sys.exit(f"error: {_error}")
