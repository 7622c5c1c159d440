"""Reviewed plates as a set to train on and to measure by: ``python -m src.flywheel.export``.

Writes a folder of JPEG pictures with train.csv, val.csv and locked.csv, truth files as src/datasets/truth.py
reads them. A picture goes to one of these by the hash of the file that was sent, so that the same picture
is never in two, whoever sends it, and whenever. ``whole`` tells whether all plates of the picture are
known: only then does what is beside them teach a localizer. manifest.json says what is in it.
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
from sqlalchemy.orm import Session
from tqdm import tqdm

from src.config import load_config
from src.datasets.splits import SPLITS, split_of
from src.errors import UserError
from src.flywheel.errors import StoreError
from src.flywheel.review import latest, reviewed_pictures
from src.flywheel.store import Store
from src.flywheel.tables import Picture, Review
from src.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box
from src.utils.files import complete_folder

NAME = "reviewed"
"""Folder of the set, in that of the sets for fine-tuning."""
REPORT = Path("out/quality/feedback")
MANIFEST = "manifest.json"
_COLUMNS = ("file", "plate", *BOX_COLUMNS, *CORNER_COLUMNS, "lines", "whole")


@dataclass(frozen=True)
class Row:
    """A plate of a truth file; corners are normalised to the picture."""

    file: str
    plate: str
    corners: Sequence[Sequence[float]]
    lines: int
    whole: bool


def rows_of(picture: Picture) -> list[Row]:
    """What was reviewed in a picture; empty where nothing was."""
    decided = [
        (prediction, latest(picture.reviews, prediction.plate))
        for prediction in picture.predictions
    ]
    missed = latest(picture.reviews, None)
    said = [each for each in picture.feedback if each.plate is None]
    is_missing = bool(said) and said[-1].verdict == "missed" and missed is None
    # What nobody looked at may be a plate.
    whole = not is_missing and all(review is not None for _, review in decided)
    size = (picture.width, picture.height)
    rows = [
        Row(
            f"{picture.file}.jpg",
            review.text or prediction.text,
            _normalised(review.corners or prediction.corners, size),
            review.lines or prediction.lines,
            whole,
        )
        for prediction, review in decided
        if review is not None and review.state in ("accepted", "corrected")
    ]
    if missed is not None and missed.state == "corrected":
        rows.append(_missed_row(picture, missed, size, whole))
    return rows


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
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    models = set()
    for picture in reviewed_pictures(session):
        found = rows_of(picture)
        if found:
            rows[split_of(picture.sha256)] += found
            models.add(picture.model)
    if not any(rows.values()):
        raise StoreError(f"{store.name}: nothing was reviewed yet; `make dashboard` has the queue")
    with complete_folder(out) as folder:
        pictures = folder / "pictures"
        pictures.mkdir()
        files = sorted({row.file for found in rows.values() for row in found})
        for file in tqdm(files, unit=" pictures", desc=str(out)):
            try:
                shutil.copyfile(store.pictures.path(file.removesuffix(".jpg")), pictures / file)
            except FileNotFoundError as error:
                raise StoreError(f"{error.filename}: is missing from the store") from error
        for name, found in rows.items():
            _write(folder / f"{name}.csv", found)
        manifest = {
            "version": _version(folder),
            "plates": {name: len(found) for name, found in rows.items()},
            "pictures": {name: len({row.file for row in found}) for name, found in rows.items()},
            "read_by": sorted(models),
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _missed_row(picture: Picture, review: Review, size: tuple[int, int], whole: bool) -> Row:
    corners = _normalised(review.corners or [], size)
    return Row(f"{picture.file}.jpg", review.text or "", corners, review.lines or 1, whole)


def _normalised(corners: Sequence[Sequence[float]], size: tuple[int, int]) -> list[list[float]]:
    width, height = size
    return [[x / width, y / height] for x, y in corners]


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(_values(rows))


def _values(rows: Sequence[Row]) -> Iterator[list[Any]]:
    for row in sorted(rows, key=lambda each: (each.file, each.plate)):
        corners = np.array(row.corners)
        numbers = [f"{value:.6f}" for value in (*corners_to_box(corners), *corners.ravel())]
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
        prog="python -m src.flywheel.export",
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
    try:
        with store.reading() as session:
            manifest = export(session, store, out)
    finally:
        store.close()
    counts = ", ".join(f"{name} {count}" for name, count in manifest["plates"].items())
    print(f"{out}: version {manifest['version']}, plates: {counts}. Track it: dvc add {out}")
    # In a process of its own: what the checks need is large, and this is not.
    command = [sys.executable, "-m", "src.quality", str(out), "--out", str(options.report)]
    if subprocess.run(command, check=False).returncode:
        print(f"Look at {options.report} before anything learns from {out}.", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
