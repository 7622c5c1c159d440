"""Reviewed plates as a set to train on and to measure by: ``python -m src.flywheel.export``.

Writes a folder of JPEG pictures with train.csv, val.csv and locked.csv, annotation files as
src/datasets/annotations.py reads them. A picture goes to one of these by the hash of its pixels, so that
the same picture is never in two, whoever sends it, in which file, and whenever. Where it was sent more than
once, it is there once, and of one place the latest review counts. ``whole`` tells whether all plates of the
picture are known: only then does what is beside them teach a localizer. manifest.json says what is in it.
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
from .review import latest, reviewed_pictures
from .store import Store
from .tables import Picture, Review

NAME = "reviewed"
"""Folder of the set, in that of the sets for fine-tuning."""
REPORT = Path("out/quality/feedback")
MANIFEST = "manifest.json"
SAME_PLACE = 0.5
"""IoU from which on two reviews of a picture are of one plate."""
_COLUMNS = ("file", "plate", *BOX_COLUMNS, *CORNER_COLUMNS, "lines", "whole")


@dataclass(frozen=True)
class Row:
    """A plate of an annotation file; corners are ``(4, 2)``, normalised to the picture."""

    file: str
    plate: str
    corners: NDArray[np.float64]
    lines: int
    whole: bool


@dataclass(frozen=True)
class Decision:
    """What was reviewed of a place: its plate's text, None where there is none to learn from."""

    review: Review
    corners: NDArray[np.float64]
    text: str | None
    lines: int


def rows_of(copies: Sequence[Picture]) -> tuple[list[Row], int]:
    """What was reviewed of a picture, and how many reviews contradict a later one.

    Args:
        copies: all entries of the store that are this picture.
    """
    decisions = [decision for picture in copies for decision in _decisions(picture)]
    decisions.sort(key=lambda each: each.review.number, reverse=True)
    whole = any(_is_whole(picture) for picture in copies)
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


def _decisions(picture: Picture) -> Iterator[Decision]:
    size = (picture.width, picture.height)
    for prediction in picture.predictions:
        review = latest(picture.reviews, prediction.plate)
        if review is not None:
            text = None if review.state == "rejected" else review.text or prediction.text
            corners = _normalised(review.corners or prediction.corners, size)
            yield Decision(review, corners, text, review.lines or prediction.lines)
    missed = latest(picture.reviews, None)
    if missed is not None and missed.state == "corrected":
        corners = _normalised(missed.corners or [], size)
        yield Decision(missed, corners, missed.text or "", missed.lines or 1)


def _is_whole(picture: Picture) -> bool:
    """Whether all plates are known: what nobody looked at may be one, and so may what was rejected.

    A foreign plate is rejected, or one that nobody can read; a localizer must not learn that there is none.
    """
    said = [each for each in picture.feedback if each.plate is None]
    missed = latest(picture.reviews, None)
    if said and said[-1].verdict == "missed" and missed is None:
        return False
    reviews = [latest(picture.reviews, prediction.plate) for prediction in picture.predictions]
    return all(review is not None and review.state != "rejected" for review in reviews)


def _at_one_place(a: Decision, b: Decision) -> bool:
    # What was found in one copy are several plates, however near.
    if a.review.picture_id == b.review.picture_id:
        return False
    boxes = (corners_to_box(each.corners) for each in (a, b))
    return float(box_iou(*boxes)) >= SAME_PLACE


def export(session: Session, store: Store, out: Path) -> dict[str, Any]:
    """Write the set.

    Args:
        session: of ``Store.reading``.
        store: has the pictures.
        out: folder that is replaced.

    Returns:
        The manifest.

    Raises:
        StoreError: nothing was reviewed, or a picture is missing.
        StageError: the folder cannot be written.
    """
    copies: dict[str, list[Picture]] = {}
    for picture in reviewed_pictures(session):
        copies.setdefault(picture.file, []).append(picture)
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    models, contradicted = set(), 0
    for file, pictures in copies.items():
        found, contradictions = rows_of(pictures)
        contradicted += contradictions
        rows[split_of(file)] += found
        models |= {picture.model for picture in pictures if found}
    if not any(rows.values()):
        raise StoreError(f"{store.name}: nothing was reviewed yet; `make dashboard` has the queue")
    with complete_folder(out) as folder:
        (folder / "pictures").mkdir()
        files = sorted({row.file for found in rows.values() for row in found})
        for file in tqdm(files, unit=" pictures", desc=str(out)):
            try:
                source = store.pictures.path(file.removesuffix(".jpg"))
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
    """A warning where pictures of the set that was replaced are in the new one no more; else empty.

    Args:
        out: the set.
        manifest: of it.
        before: names of the pictures of the one before.
    """
    gone = before - names_of(out)
    if not gone:
        return ""
    return (
        f"{out}: {len(gone)} of the {len(before)} pictures of the last export are not in the store any more "
        f"(see --feedback-days), and so not in version {manifest['version']}. To keep them, take that export "
        f"out of Git's and DVC's history, and move it to a folder beside {out}."
    )


def names_of(folder: Path) -> set[str]:
    """Names of a set's pictures; none where there is no set."""
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
        # A plate may be cut off by the picture's edge; the box is what is in it.
        box = corners_to_box(row.corners.clip(0, 1))
        numbers = [f"{value:.6f}" for value in (*box, *row.corners.ravel())]
        yield [f"pictures/{row.file}", row.plate, *numbers, row.lines, int(row.whole)]


def _version(folder: Path) -> str:
    """Of the content: the same reviews give the same version."""
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update((folder / f"{name}.csv").read_bytes())
    return digest.hexdigest()[:12]


def main(arguments: list[str] | None = None) -> None:
    """What the command does."""
    parser = argparse.ArgumentParser(
        prog=program("flywheel.export"),
        description="Write reviewed plates as a set for fine-tuning and for the gate.",
    )
    parser.add_argument("--feedback", required=True, metavar="URL", help="as of the server")
    parser.add_argument("--feedback-pictures", type=Path, metavar="DIR", help="as of the server")
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help=f"default: {NAME} in the feedback_path of params.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, default=REPORT, metavar="DIR",
        help="of the quality check (default: %(default)s)",
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
    print(f"{out}: version {manifest['version']}, plates: {counts}. Track it: dvc add {out}")
    if count := manifest["contradicted"]:
        print(
            f"{count} reviews contradict a later one of the same plate, which counts.",
            file=sys.stderr,
        )
    if warning := lost(out, manifest, before):
        print(warning, file=sys.stderr)
    # In a process of its own: what the checks need is large, and this is not.
    command = [sys.executable, "-m", f"{PACKAGE}.quality", str(out), "--out", str(options.report)]
    if subprocess.run(command, check=False).returncode:
        print(f"Look at {options.report} before anything learns from {out}.", file=sys.stderr)


def command(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    try:
        main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(command())
