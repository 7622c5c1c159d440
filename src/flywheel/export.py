"""Export reviewed plates as a set for training and evaluation: ``python -m src.flywheel.export``.

Writes a folder of JPEG images with train.csv, val.csv and locked.csv, annotation files in the format of
src/datasets/annotations.py. The hash of its pixels assigns an image to one of them, so that the same
image is never in two, no matter who sends it, in which file, or when. An image that was sent more than
once is exported once, and the latest review of a location counts. The column ``whole`` tells whether all
plates in the image are annotated: only then can a localizer learn from the background. manifest.json
describes the content of the set.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from tqdm import tqdm

from ..config import load_config
from ..core.errors import UserError
from ..core.files import complete_folder
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_iou, corners_to_box
from ..core.program import PACKAGE, program
from ..datasets.splits import SPLITS, split_of
from .errors import StoreError
from .review import latest, reviewed_images
from .store import Store
from .tables import Review, StoredImage

NAME = "reviewed"
"""Name of the set's folder, inside the folder of the sets for fine-tuning."""
REPORT = Path("out/quality/feedback")
MANIFEST = "manifest.json"
SAME_PLACE = 0.5
"""Minimum IoU of two reviews of an image that are considered to be of the same plate."""
_COLUMNS = ("file", "plate", *BOX_COLUMNS, *CORNER_COLUMNS, "lines", "whole")


@dataclass(frozen=True)
class Row:
    """A plate in an annotation file; corners are normalised to the image, shape ``(4, 2)``."""

    file: str
    plate: str
    corners: NDArray[np.float64]
    lines: int
    whole: bool


@dataclass(frozen=True)
class Decision:
    """A reviewed location and its plate's text, which is None if there is no plate to learn from."""

    review: Review
    corners: NDArray[np.float64]
    text: str | None
    lines: int


def rows_of(copies: Sequence[StoredImage]) -> tuple[list[Row], int]:
    """Return the reviewed plates of an image, and how many reviews contradict a later one.

    Args:
        copies: All entries of the store with this same image.
    """
    decisions = [decision for image in copies for decision in _decisions(image)]
    decisions.sort(key=lambda each: each.review.number, reverse=True)
    whole = any(_is_whole(image) for image in copies)
    kept: list[Decision] = []
    contradicted = 0
    for decision in decisions:
        later = next((each for each in kept if _at_one_place(each, decision)), None)
        if later is None:
            kept.append(decision)
        else:
            contradicted += later.text != decision.text
    rows = [
        Row(f"{copies[0].file}.jpg", each.text, each.corners, each.lines, whole)
        for each in kept
        if each.text is not None
    ]
    return rows, contradicted


def _decisions(image: StoredImage) -> Iterator[Decision]:
    size = (image.width, image.height)
    for prediction in image.predictions:
        review = latest(image.reviews, prediction.plate)
        if review is not None:
            text = None if review.state == "rejected" else review.text or prediction.text
            corners = _normalised(review.corners or prediction.corners, size)
            yield Decision(review, corners, text, review.lines or prediction.lines)
    missed = latest(image.reviews, None)
    if missed is not None and missed.state == "corrected":
        corners = _normalised(missed.corners or [], size)
        yield Decision(missed, corners, missed.text or "", missed.lines or 1)


def _is_whole(image: StoredImage) -> bool:
    """Return whether all plates of an image are known, so that its background holds none.

    A detection that nobody reviewed may be a plate, and so may a rejected one: reviewers reject foreign
    and illegible plates too, and a localizer must not learn that there is no plate.
    """
    said = [each for each in image.feedback if each.plate is None]
    missed = latest(image.reviews, None)
    if said and said[-1].verdict == "missed" and missed is None:
        return False
    reviews = [latest(image.reviews, prediction.plate) for prediction in image.predictions]
    return all(review is not None and review.state != "rejected" for review in reviews)


def _at_one_place(a: Decision, b: Decision) -> bool:
    # Detections in the same copy are different plates, however close.
    if a.review.picture_id == b.review.picture_id:
        return False
    boxes = (corners_to_box(each.corners) for each in (a, b))
    return float(box_iou(*boxes)) >= SAME_PLACE


def export(session: Session, store: Store, out: Path) -> dict[str, Any]:
    """Write the set of reviewed plates.

    Args:
        session: Session of ``Store.reading``.
        store: Store that holds the images.
        out: Output folder, which is replaced.

    Returns:
        The manifest of the set.

    Raises:
        StoreError: Nothing was reviewed, or an image is missing.
        StageError: The folder cannot be written.
    """
    copies: dict[str, list[StoredImage]] = {}
    for image in reviewed_images(session):
        copies.setdefault(image.file, []).append(image)
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    models, contradicted = set(), 0
    for file, images in copies.items():
        found, contradictions = rows_of(images)
        contradicted += contradictions
        rows[split_of(file)] += found
        models |= {image.model for image in images if found}
    if not any(rows.values()):
        raise StoreError(
            f"{store.name}: no plate has been reviewed yet; review some with `make dashboard`"
        )
    with complete_folder(out) as folder:
        (folder / "pictures").mkdir()
        files = sorted({row.file for found in rows.values() for row in found})
        for file in tqdm(files, unit=" images", desc=str(out)):
            try:
                source = store.images.path(file.removesuffix(".jpg"))
                shutil.copyfile(source, folder / "pictures" / file)
            except FileNotFoundError as error:
                raise StoreError(f"{error.filename}: is missing from the store") from error
        for name, found in rows.items():
            _write(folder / f"{name}.csv", found)
        manifest = {
            "version": _version(folder),
            "plates": {name: len(found) for name, found in rows.items()},
            "pictures": {name: len({row.file for row in found}) for name, found in rows.items()},
            "read_by": sorted(models),
            "contradicted": contradicted,
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def lost(out: Path, manifest: dict[str, Any], before: set[str]) -> str:
    """Return a warning if the new set lacks images of the one it replaced, otherwise an empty string.

    Args:
        out: Folder of the new set.
        manifest: Manifest of the new set.
        before: Names of the images of the previous set.
    """
    gone = before - names_of(out)
    if not gone:
        return ""
    return (
        f"{out}: {len(gone)} of the {len(before)} images of the last export are no longer in the store "
        f"(see --feedback-days), and thus not in version {manifest['version']}. To keep them, restore "
        f"that export from the history of Git and DVC, and move it to a folder next to {out}."
    )


def names_of(folder: Path) -> set[str]:
    """Return the names of a set's images; empty if the set does not exist."""
    return {path.name for path in (folder / "pictures").glob("*.jpg")}


def _normalised(corners: Sequence[Sequence[float]], size: tuple[int, int]) -> NDArray[np.float64]:
    return np.array(corners, float).reshape(-1, 2) / size


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(_values(rows))


def _values(rows: Sequence[Row]) -> Iterator[list[Any]]:
    for row in sorted(rows, key=lambda each: (each.file, each.plate)):
        # The edge of the image may cut off a plate; its box covers only the part inside.
        box = corners_to_box(row.corners.clip(0, 1))
        numbers = [f"{value:.6f}" for value in (*box, *row.corners.ravel())]
        yield [f"pictures/{row.file}", row.plate, *numbers, row.lines, int(row.whole)]


def _version(folder: Path) -> str:
    """Return a hash of the content as version, so that the same reviews give the same version."""
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update((folder / f"{name}.csv").read_bytes())
    return digest.hexdigest()[:12]


def main(arguments: list[str] | None = None) -> None:
    """Export the set and check its quality."""
    parser = argparse.ArgumentParser(
        prog=program("flywheel.export"),
        description="Export reviewed plates as a set for fine-tuning and for the promotion gate.",
    )
    parser.add_argument(
        "--feedback", required=True, metavar="URL", help="database of the server's feedback"
    )
    parser.add_argument(
        "--feedback-pictures", type=Path, metavar="DIR",
        help="folder of the stored images (default: next to the SQLite file)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help=f"folder of the set (default: {NAME} in the feedback_path of params.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, default=REPORT, metavar="DIR",
        help="folder of the quality report (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    out = options.out or Path(load_config().feedback_path) / NAME
    store = Store(options.feedback, options.feedback_pictures)
    before = names_of(out)
    try:
        with store.reading() as session:
            manifest = export(session, store, out)
    finally:
        store.close()
    counts = ", ".join(f"{name} {count}" for name, count in manifest["plates"].items())
    print(
        f"{out}: version {manifest['version']}, plates: {counts}. Track it with `dvc add {out}` and "
        f"`git add {out}.dvc`; experiments with --queue or --temp stop until you have."
    )
    if count := manifest["contradicted"]:
        print(
            f"{count} reviews contradict a later review of the same plate; only the later one counts.",
            file=sys.stderr,
        )
    if warning := lost(out, manifest, before):
        print(warning, file=sys.stderr)
    # In a separate process: the checks need large dependencies, and the export does not.
    command = [sys.executable, "-m", f"{PACKAGE}.quality", str(out), "--out", str(options.report)]
    if subprocess.run(command, check=False).returncode:
        print(f"Check {options.report} before training on {out}.", file=sys.stderr)


def command(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit status."""
    try:
        main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(command())
