"""Run the whole data flywheel once with a simulated user: ``make flywheel-demo``.

Images from a camera mounted on its side, which do not occur in training, are sent to a server that
stores them. For each image, the user confirms or corrects what was read, with mistakes in 5 % of the
corrections. The feedback is reviewed, exported and used for fine-tuning, and the gate judges the new
bundle on the held-out part of these images. All of this happens in a clone of the project in a separate
folder; this workspace does not change. The accuracy before and after is printed, both on other images of
that camera and on the original validation set.

Models trained in this workspace are taken from DVC's cache; if there are none, ``make run`` runs first.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from dvc.repo import Repo
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.run import stage_environment
from src.config import load_config
from src.core.errors import UserError
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_iou, box_to_xyxy, xyxy_to_box
from src.core.random import Draws
from src.datasets.annotations import AnnotatedImage, AnnotatedPlate, PreparedAnnotations
from src.datasets.prepare import SceneSource, StreetMix, WholeScenes
from src.datasets.shards import ShardedSet
from src.evaluation.end_to_end import AnnotatedSet, score
from src.flywheel.corrections import Correction
from src.flywheel.review import Item, decide, queue
from src.flywheel.store import Store
from src.inference.reader import PlateReader
from src.promotion.gate import RIGHT, plates_right

Gray = NDArray[np.uint8]

FOLDER = Path("flywheel-demo")
SEED = 20260718
MISTAKES = 0.05
"""Fraction of the user's corrections in which one digit is wrong."""
TESTED = 1000
"""Number of the camera's images that measure the gain; nobody corrects them."""
_SAME = 0.5
"""Minimum IoU at which a detected plate counts as the plate in the image."""
_EXACT = 0.8
"""Minimum IoU at which the user leaves the corners as they are."""
_COPIED = ("params.py", "params.yaml", "dvc.lock", "out")
"""Files and folders of the workspace that the last run may have changed."""
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Shot:
    """An image of the camera, and the plate in it."""

    image: Gray
    plate: AnnotatedPlate


class DemoError(UserError):
    """The demonstration cannot go on."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.flywheel_demo", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--pictures",
        dest="images",
        type=int,
        default=500,
        help="images the user looks at (default: 500)",
    )
    options = parser.parse_args()
    started = time.monotonic()
    demo = Demo(FOLDER.resolve())
    demo.clone()
    shots = demo.shots(options.images + TESTED)
    learnt, tested = shots[: options.images], shots[options.images :]
    demo.promote_first()
    before = demo.accuracy(tested)
    demo.collect(learnt)
    demo.learn()
    promoted = demo.promote()
    after = demo.accuracy(tested, "models" if promoted else "out/models/stack")
    report(before, after, promoted, time.monotonic() - started)
    if not promoted:
        sys.exit(1)


class Demo:
    """A clone of the project, and the steps of the demonstration in it.

    Args:
        folder: Folder of the clone, which is created anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clone(self) -> None:
        """Clone the project with its trained models; run a quick training where there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)
        say(f"Cloning the project into {self.folder.name}")
        run(["git", "clone", "--quiet", "--no-hardlinks", ".", str(self.folder)], Path())
        for name in _COPIED:
            source, copy = Path(name), self.folder / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("models", "checkpoints", "tensorboard")
                shutil.copytree(source, copy, dirs_exist_ok=True, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, copy)
        with Repo() as repo:
            cache = repo.cache.local_cache_dir
        self._run("dvc", "config", "--local", "cache.dir", cache)
        self._commit("Record the last run")
        stages = [
            "fetch_backgrounds",
            "train_localize",
            "train_ocr",
            "prepare_stack",
            "export_stack",
        ]
        checked_out = self._try("dvc", "checkout", "--quiet", *stages)
        if checked_out.returncode or not (self.folder / "out/models/stack/manifest.json").exists():
            say("No trained models found; running the quick profile first")
            self._run(sys.executable, "-m", "scripts.run", "quick")
            self._commit("Run the quick profile")

    def shots(self, count: int) -> list[Shot]:
        """Return images of the camera."""
        say(f"Drawing {count} images of another camera")
        config = load_config(self.folder)
        backgrounds = str(self.folder / config.dataset_path)
        config = config.model_copy(update={"dataset_path": backgrounds})
        side = config.PrepareStackParams.IMG_SIZE[0]
        source = SceneSource(config, SEED, "camera", "val", side, 0.0, StreetMix(0.0))
        scenes = WholeScenes(source)(range(count))
        rows = scenes.labels.to_dict("records")
        return [
            sideways(image, labelled(row, image.shape))
            for image, row in zip(scenes.images, rows, strict=True)
        ]

    def promote_first(self) -> None:
        """Make the trained bundle the promoted one, because it is what the user has."""
        say("Promoting the trained bundle as it is")
        self._run("git", "rm", "--quiet", "-r", "models")
        self._commit("Remove the promoted bundle")
        self._run(sys.executable, "-m", "src.promote")
        self._commit("Promote the first bundle")

    def accuracy(self, shots: Sequence[Shot], bundle: str = "models") -> dict[str, float]:
        """Return the fraction of plates read without any error, for the camera and the original set."""
        reader = PlateReader.load(self.folder / bundle)
        original = PreparedAnnotations(ShardedSet(self.folder / "data/prepared/stack/val"))
        sets: dict[str, AnnotatedSet] = {
            "the new camera": _Shots(shots),
            "the original set": original,
        }
        return {
            name: float(plates_right(score(reader, annotated, name))[RIGHT].mean())
            for name, annotated in sets.items()
        }

    def collect(self, shots: Sequence[Shot]) -> None:
        """Let the server read and keep the images, collect the user's feedback, and review it."""
        database = f"sqlite:///{self.folder / 'feedback.db'}"
        said = 0
        with self._server(database) as client:
            say(f"Collecting the user's feedback on {len(shots)} images")
            randoms = Draws(SEED, "user", np.arange(len(shots))).uniform(shape=(3,))
            bar = tqdm(zip(shots, randoms, strict=True), total=len(shots), unit=" images")
            for shot, numbers in bar:
                content = cv2.imencode(".png", shot.image)[1].tobytes()
                answer = client.post("/v1/read", content=content).raise_for_status().json()
                (result,) = answer["results"]
                feedback = opinion(shot.plate, result["plates"], numbers)
                said += feedback["verdict"] != "right"
                body = {"id": result["id"], **feedback}
                client.post("/v1/feedback", json=body).raise_for_status()
        print(f"  {said} corrections; all other readings were confirmed")
        store = Store(database)
        try:
            review(store)
        finally:
            store.close()
        self._run(sys.executable, "-m", "src.flywheel.export", "--feedback", database)
        self._run("dvc", "add", "--quiet", "data/feedback/reviewed")
        self._commit("Feedback")

    def learn(self) -> None:
        """Fine-tune, export and evaluate with the pipeline."""
        say("Fine-tuning")
        self._run("dvc", "repro", "evaluate_stack")
        self._commit("Fine-tune the recognizer")

    def promote(self) -> bool:
        """Promote the new bundle if the gate accepts it; return whether it was promoted."""
        say("Comparing the bundles in the gate")
        labels = ["--labels", "data/feedback/reviewed/locked.csv", "--primary", "locked"]
        return self._try(sys.executable, "-m", "src.promote", *labels).returncode == 0

    @contextmanager
    def _server(self, database: str) -> Iterator[httpx.Client]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "src.serve", "--port", str(port), "--feedback", database]
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
                wait_until_ready(client, server)
                yield client
        finally:
            server.terminate()
            server.wait()

    def _run(self, *command: str) -> None:
        run(list(command), self.folder)

    def _try(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, cwd=self.folder, env=stage_environment(), check=False)

    def _commit(self, message: str) -> None:
        self._run("git", "add", "--all")
        self._run("git", "commit", "--quiet", "--allow-empty", "--message", message)


class _Shots:
    """Images of the camera with their annotations."""

    has_corners = True
    has_text = True

    def __init__(self, shots: Sequence[Shot]) -> None:
        self._shots = shots

    def __len__(self) -> int:
        return len(self._shots)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for number, shot in enumerate(self._shots):
            yield AnnotatedImage(str(number), shot.image, [shot.plate])


def sideways(image: Gray, plate: AnnotatedPlate) -> Shot:
    """Return the image that a camera mounted on its side takes: turned left by a right angle."""
    assert plate.corners is not None  # noqa: S101  # for the type checker
    width = image.shape[1]
    x1, y1, x2, y2 = plate.box
    corners = np.stack([plate.corners[:, 1], width - plate.corners[:, 0]], axis=1)
    turned = replace(plate, box=np.array([y1, width - x2, y2, width - x1]), corners=corners)
    return Shot(np.ascontiguousarray(np.rot90(image)), turned)


def labelled(row: Mapping[Any, Any], shape: tuple[int, ...]) -> AnnotatedPlate:
    """Return the plate of a row of labels, in pixels of an image of ``shape``."""
    size = np.array(shape[::-1])
    corners = np.array([row[name] for name in CORNER_COLUMNS], float).reshape(4, 2)
    box = box_to_xyxy(np.array([row[name] for name in BOX_COLUMNS], float))
    return AnnotatedPlate(
        row["plate"], box * [*size, *size], corners * size, row["lines"], row["format"]
    )


def opinion(
    plate: AnnotatedPlate, found: Sequence[dict[str, Any]], randoms: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the user's feedback on an answer, in the form that POST /v1/feedback expects.

    Args:
        plate: Ground-truth plate.
        found: Plates of the answer.
        randoms: Random numbers in [0, 1) that decide on mistakes, shape ``(3,)``.
    """
    assert plate.text is not None  # noqa: S101  # for the type checker
    assert plate.corners is not None  # noqa: S101
    ious = [overlap(plate, each) for each in found]
    text = mistaken(plate.text, randoms[1:]) if randoms[0] < MISTAKES else plate.text
    corners = plate.corners.tolist()
    if not ious or max(ious) < _SAME:
        return {"verdict": "missed", "text": text, "corners": corners, "lines": plate.lines}
    nearest = int(np.argmax(ious))
    if found[nearest]["plate"] == plate.text and ious[nearest] >= _EXACT:
        return {"plate": nearest, "verdict": "right"}
    moved = {"corners": corners} if ious[nearest] < _EXACT else {}
    return {"plate": nearest, "verdict": "wrong", "text": text, **moved}


def overlap(plate: AnnotatedPlate, found: dict[str, Any]) -> float:
    """Return the IoU of the ground-truth plate with a plate of an answer."""
    box = xyxy_to_box(np.array(found["box"], float))
    return float(box_iou(xyxy_to_box(plate.box), box))


def mistaken(text: str, randoms: NDArray[np.float64]) -> str:
    """Return the text with one digit replaced by another; the first digit is never 0."""
    place = 2 + int(randoms[0] * (len(text) - 2))
    digit = (int(text[place]) + 1 + int(randoms[1] * 8)) % 10
    if digit == 0 and place == 2:
        digit = 9 if text[place] != "9" else 8
    return f"{text[:place]}{digit}{text[place + 1 :]}"


def review(store: Store) -> None:
    """Decide on all pending items: accept the user's word, and reject what has no feedback."""
    say("Reviewing the feedback")
    while True:
        with store.reading() as session:
            waiting = [
                (item.image.id, item.plate, *_decision(item)) for item in queue(session, 10_000)
            ]
        if not waiting:
            return
        for image, plate, state, correction in tqdm(waiting, unit=" plates"):
            decide(store, image, plate, state, "demo", correction)


def _decision(item: Item) -> tuple[str, Correction]:
    said = item.feedback
    if said is None:
        return "rejected", Correction()
    if said.verdict == "right":
        return "accepted", Correction()
    corners = None if said.corners is None else tuple((x, y) for x, y in said.corners)
    return "corrected", Correction(said.text, corners)


def wait_until_ready(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server is ready.

    Raises:
        DemoError: The server has ended, or takes too long.
    """
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise DemoError(f"the server did not become ready; see {FOLDER / 'server.log'}")


def run(command: list[str], folder: Path) -> None:
    """Run a command.

    Raises:
        DemoError: The command fails.
    """
    done = subprocess.run(command, cwd=folder, env=stage_environment(), check=False)
    if done.returncode:
        raise DemoError(f"`{' '.join(command)}` failed in {folder}")


def say(text: str) -> None:
    print(f"\n{text} ...", flush=True)


def report(
    before: dict[str, float], after: dict[str, float], promoted: bool, seconds: float
) -> None:
    """Print the results of the demonstration."""
    shifted, original = before
    lost = before[original] - before[shifted]
    recovered = (after[shifted] - before[shifted]) / lost if lost > 0 else 0.0
    print(f"\n{'':20}{'before':>9}{'after':>9}")
    for name, share in before.items():
        print(f"{name:20}{share:>9.4f}{after[name]:>9.4f}")
    print(
        f"Recovered {recovered:.0%} of the lost accuracy; the original set changed by "
        f"{100 * (after[original] - before[original]):+.2f} percentage points. The gate "
        f"{'accepted' if promoted else 'refused'} the bundle. Total time: {seconds / 60:.1f} min."
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
