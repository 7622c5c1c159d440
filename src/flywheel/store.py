"""The store of images that were read, of the plates read in them, and of feedback on these.

Rows are in a database (src/flywheel/tables.py), files in a folder (src/flywheel/images.py). Several
servers may share both: a server that adds or deletes files holds a lock of the database meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..core.images import ImageError, load_colour
from .corrections import Correction
from .database import Database
from .errors import CorrectionError, StoreError, StoreFullError, UnknownEntryError
from .events import purge_events
from .images import ImageFolder, Pixels, Staged, crop_box, encode
from .tables import VERDICTS, Feedback, Identity, Prediction, StoredImage

if TYPE_CHECKING:
    from ..inference.reader import Plate

MOST_FEEDBACK = 100
"""Maximum feedback entries per image: nobody needs more, and nobody can fill the disk with them."""
_TOGETHER = 200
"""Number of images that are deleted in one transaction, which makes other transactions wait."""
_ID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger("plates.flywheel")


@dataclass(frozen=True)
class Capture:
    """An image that was read and is to be stored.

    Attributes:
        id: Id of the image, 32 random hexadecimal digits.
        content: Content of the file as it was sent.
        plates: Plates that were read, in the order of the response.
        width: Width of the displayed image in pixels.
        height: Height of the displayed image in pixels.
        model: Version of the bundle.
        created: Time at which the image was read, with a time zone.
    """

    id: str
    content: bytes
    plates: Sequence[Plate]
    width: int
    height: int
    model: str
    created: datetime


class Store:
    """A database and its folder of images, which any number of threads may use at once.

    Args:
        url: URL of the database, sqlite:///FILE or postgresql://….
        images: Folder of the images; beside SQLite's file by default.
        days: Number of days for which an image is kept with everything that belongs to it.
        max_bytes: Total size of the images in bytes from which on no more are added.

    Raises:
        StoreError: The database or the folder cannot be used.
    """

    def __init__(
        self, url: str, images: Path | None = None, days: float = 90, max_bytes: float = 2**32
    ) -> None:
        self._database = Database(url)
        self.name = self._database.name
        """Name of the database for messages, which contains no password."""
        self._kept = timedelta(days=days)
        self._max_bytes = max_bytes
        file = self._database.file
        if images is None:
            if file is None:
                raise StoreError(
                    f"{self.name}: set the folder of the images with --feedback-pictures"
                )
            images = file.with_name(f"{file.stem}-pictures")
        self.images = ImageFolder(images)
        self._database.migrate()
        with self._changing_files(alone=True) as session:
            self.images.open(session.scalars(select(Identity.id)).one())

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def reading(self) -> AbstractContextManager[Session]:
        """Open a transaction that reads the tables; its errors are ``StoreError``."""
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Session]:
        """Open a transaction that is on disk when its block has ended; its errors are ``StoreError``.

        It must neither add nor delete images and predictions, because these have files.
        """
        return self._database.writing()

    def save(self, captures: Sequence[Capture]) -> set[str]:
        """Store images with the plates read in them; those that are stored already stay as they are.

        Returns:
            The ids of the images that are stored. The others could not be decoded in colour.

        Raises:
            StoreFullError: The store has no room for more.
            StoreError: The database or the folder fails; none of the images is stored.
        """
        with self.reading() as session:
            if (session.scalar(select(func.sum(StoredImage.bytes))) or 0) >= self._max_bytes:
                raise StoreFullError(
                    f"{self.name}: the stored images reach the limit of {self._max_bytes / 2**20:g} MiB "
                    "(--max-feedback-mib); no more are stored"
                )
        staged: list[Staged] = []
        rows = []
        try:
            for capture in captures:
                try:
                    rows.append(self._row(capture, staged))
                except ImageError as error:
                    log.warning("an image is not stored: %s", error)
            with self._changing_files(alone=False) as session:
                for each in staged:
                    self.images.keep(each)
                # Where a connection broke at the end of a transaction, the caller cannot tell whether it
                # is on disk, and tries again.
                ids = select(StoredImage.id).where(StoredImage.id.in_([row.id for row in rows]))
                stored = set(session.scalars(ids))
                session.add_all(row for row in rows if row.id not in stored)
        except OSError as error:
            raise _of_files(error) from error
        finally:
            for each in staged:
                self.images.discard(each)
        return {row.id for row in rows}

    def _row(self, capture: Capture, staged: list[Staged]) -> StoredImage:
        """Return the rows of an image, and append its files to ``staged``."""
        pixels = load_colour(capture.content, max_pixels=capture.width * capture.height)
        files: list[Staged] = []

        def file(part: Pixels) -> str:
            files.append(self.images.stage(encode(part)))
            staged.append(files[-1])
            return files[-1].name

        name = file(pixels)
        predictions = []
        for number, plate in enumerate(capture.plates):
            x1, y1, x2, y2 = crop_box(plate.corners, capture.width, capture.height)
            predictions.append(
                Prediction(
                    plate=number,
                    text=plate.text,
                    is_given=plate.plate is not None,
                    confidence=plate.confidence,
                    char_confidences=list(plate.char_confidences),
                    corners=[list(corner) for corner in plate.corners],
                    lines=plate.lines,
                    score=plate.score,
                    crop=file(pixels[y1:y2, x1:x2]),
                    crop_box=[x1, y1, x2, y2],
                )
            )
        return StoredImage(
            id=capture.id,
            sha256=hashlib.sha256(capture.content).hexdigest(),
            file=name,
            bytes=sum(each.size for each in files),
            width=capture.width,
            height=capture.height,
            model=capture.model,
            created=capture.created,
            predictions=predictions,
        )

    def add_feedback(
        self,
        entry: str,
        plate: int | None,
        verdict: str,
        correction: Correction = Correction(),  # noqa: B008  # it cannot be changed
        now: datetime | None = None,
    ) -> Feedback:
        """Store feedback from a user, which is on disk when this method returns.

        Args:
            entry: Id of the image.
            plate: Index of the prediction; None for feedback on the whole image: that a plate was
                "missed", or with "right" that none was.
            verdict: One of ``VERDICTS``.
            correction: Correction of a plate that is wrong or was missed.
            now: Time of the feedback with a time zone; the current time by default.

        Raises:
            UnknownEntryError: The image does not exist, or has no such plate.
            CorrectionError: The correction violates the plate grammar or does not fit the verdict, or
                the image has ``MOST_FEEDBACK`` entries already.
            StoreError: The database fails.
        """
        _check_id(entry)
        _check_verdict(plate, verdict, correction)
        with self.writing() as session:
            image = session.get(StoredImage, entry)
            if image is None:
                raise _unknown(entry)
            if plate is not None and session.get(Prediction, (entry, plate)) is None:
                raise UnknownEntryError(f"the image has no plate {plate}; the first one is 0")
            of_image = select(func.count()).where(Feedback.picture_id == entry)
            if (session.scalar(of_image) or 0) >= MOST_FEEDBACK:
                raise CorrectionError(f"an image can have at most {MOST_FEEDBACK} feedback entries")
            checked = correction.checked(image.width, image.height)
            feedback = Feedback(
                picture_id=entry,
                plate=plate,
                verdict=verdict,
                text=checked.text,
                corners=checked.corners and [list(corner) for corner in checked.corners],
                lines=checked.lines,
                created=now or datetime.now(UTC),
            )
            session.add(feedback)
            try:
                session.flush()
            except IntegrityError:
                # Another server has deleted the image in the meantime.
                raise _unknown(entry) from None
        return feedback

    def delete(self, entry: str) -> None:
        """Delete an image with its files and everything that belongs to it.

        Raises:
            UnknownEntryError: No image has this id.
            StoreError: The database fails and the image is still there, or the folder fails and the next
                ``purge`` deletes the files.
        """
        _check_id(entry)
        if not self._delete([entry]):
            raise _unknown(entry)

    def purge(self, now: datetime) -> int:
        """Delete images and events that are past their retention period, and files that no row refers to.

        Args:
            now: Current time with a time zone.

        Returns:
            The number of images that were deleted.

        Raises:
            StoreError: The database or the folder fails.
        """
        old = select(StoredImage.id).where(StoredImage.created < now - self._kept).limit(_TOGETHER)
        deleted = 0
        while True:
            with self.reading() as session:
                entries = session.scalars(old).all()
            if not entries:
                break
            deleted += self._delete(entries)
        purge_events(self._database, now)
        self._sweep()
        return deleted

    def _delete(self, entries: Sequence[str]) -> int:
        """Delete images and return how many of them existed."""
        with self.writing() as session:
            images = select(StoredImage.file).where(StoredImage.id.in_(entries))
            crops = select(Prediction.crop).where(Prediction.picture_id.in_(entries))
            names = {*session.scalars(images), *session.scalars(crops)}
            gone = session.scalars(
                delete(StoredImage).where(StoredImage.id.in_(entries)).returning(StoredImage.id)
            ).all()
        # Delete the rows on disk before the files: the other way round, a server that is killed in
        # between would leave rows without an image. The next purge removes files without a row.
        with self._changing_files(alone=True) as session:
            self._remove_unnamed(session, names)
        self._database.checkpoint()
        return len(gone)

    def _sweep(self) -> None:
        """Delete files that no row refers to, left by a server that was killed between the two steps."""
        try:
            self.images.remove_abandoned()
            found = list(self.images.names())
        except OSError as error:
            raise _of_files(error) from error
        for start in range(0, len(found), _TOGETHER):
            part = found[start : start + _TOGETHER]
            with self.reading() as session:
                suspects = set(part) - _named(session, part)
            if suspects:
                # Another server may be adding their rows; only under the lock is this certain.
                with self._changing_files(alone=True) as session:
                    self._remove_unnamed(session, suspects)

    def _remove_unnamed(self, session: Session, names: Iterable[str]) -> None:
        for name in set(names) - _named(session, names):
            self.images.remove(name)

    @contextmanager
    def _changing_files(self, alone: bool) -> Iterator[Session]:
        try:
            with self.writing() as session:
                self._database.lock_files(session, alone)
                yield session
        except OSError as error:
            raise _of_files(error) from error


def _named(session: Session, names: Iterable[str]) -> set[str]:
    """Return the names of those files that a row refers to."""
    wanted = list(names)
    images = select(StoredImage.file).where(StoredImage.file.in_(wanted))
    crops = select(Prediction.crop).where(Prediction.crop.in_(wanted))
    return {*session.scalars(images), *session.scalars(crops)}


def _check_verdict(plate: int | None, verdict: str, correction: Correction) -> None:
    if verdict not in VERDICTS:
        raise CorrectionError(f"the verdict must be one of {', '.join(VERDICTS)}, got {verdict!r}")
    if verdict == "wrong" and plate is None:
        raise CorrectionError(
            'the verdict "wrong" needs the number of a plate; use "missed" for one not found'
        )
    if verdict == "missed" and plate is not None:
        raise CorrectionError('the verdict "missed" takes no plate number')
    if verdict == "right" and correction:
        raise CorrectionError('the verdict "right" takes no correction')


def _check_id(entry: str) -> None:
    # PostgreSQL does not accept every character, and would report that as a failure.
    if not _ID.fullmatch(entry):
        raise _unknown(entry)


def _unknown(entry: str) -> UnknownEntryError:
    return UnknownEntryError(f"there is no image {entry!r}; it may have been deleted")


def _of_files(error: OSError) -> StoreError:
    where = f"{error.filename}: " if error.filename else ""
    return StoreError(
        f"{where}images cannot be written: {error.strerror or error}. Free some disk space, or make the "
        "folder writable."
    )
