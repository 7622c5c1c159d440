"""The store of pictures that were read, of what was read in them, and of what people say about it.

Rows are in a database (src/flywheel/tables.py), files in a folder (src/flywheel/pictures.py). Several
servers may share both: who adds or deletes files holds a lock of the database meanwhile.
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
from .pictures import PictureFolder, Pixels, Staged, crop_box, encode
from .tables import VERDICTS, Feedback, Identity, Picture, Prediction

if TYPE_CHECKING:
    from ..inference.reader import Plate

MOST_FEEDBACK = 100
"""Of one picture: nobody has more to say, and nobody may fill the disk with it."""
_TOGETHER = 200
"""Pictures that are deleted in one transaction: others wait for it."""
_ID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger("plates.flywheel")


@dataclass(frozen=True)
class Capture:
    """A picture that was read, to be stored.

    Attributes:
        id: 32 random hexadecimal digits.
        content: the file as it was sent.
        plates: what was read, in the order of the answer.
        width: of the displayed picture, in pixels.
        height: likewise.
        model: version of the bundle.
        created: when it was read, with a zone.
    """

    id: str
    content: bytes
    plates: Sequence[Plate]
    width: int
    height: int
    model: str
    created: datetime


class Store:
    """A database and its folder of pictures; any number of threads may use it at once.

    Args:
        url: of the database: sqlite:///FILE or postgresql://….
        pictures: the folder; by default beside SQLite's file.
        days: that a picture is kept with all that belongs to it.
        max_bytes: of pictures; none is added where they have as many.

    Raises:
        StoreError: the database or the folder cannot be used.
    """

    def __init__(
        self, url: str, pictures: Path | None = None, days: float = 90, max_bytes: float = 2**32
    ) -> None:
        self._database = Database(url)
        self.name = self._database.name
        """For messages; it holds no password."""
        self._kept = timedelta(days=days)
        self._max_bytes = max_bytes
        file = self._database.file
        if pictures is None:
            if file is None:
                raise StoreError(
                    f"{self.name}: name a folder for its pictures: --feedback-pictures"
                )
            pictures = file.with_name(f"{file.stem}-pictures")
        self.pictures = PictureFolder(pictures)
        self._database.migrate()
        with self._changing_files(alone=True) as session:
            self.pictures.open(session.scalars(select(Identity.id)).one())

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction that reads the tables; its errors are ``StoreError``."""
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction that is on the disk when its block has ended; its errors are ``StoreError``.

        It must neither add nor delete pictures and predictions: these have files.
        """
        return self._database.writing()

    def save(self, captures: Sequence[Capture]) -> set[str]:
        """Store pictures with what was read.

        Returns:
            Ids of those that are stored. The others could not be decoded in colour.

        Raises:
            StoreFullError: there is no room for more.
            StoreError: the database or the folder fails; none of them is stored.
        """
        with self.reading() as session:
            if (session.scalar(select(func.sum(Picture.bytes))) or 0) >= self._max_bytes:
                raise StoreFullError(
                    f"{self.name}: its pictures have more than {self._max_bytes / 2**20:g} MiB "
                    "(--max-feedback-mib); no more are stored"
                )
        staged: list[Staged] = []
        rows = []
        try:
            for capture in captures:
                try:
                    rows.append(self._row(capture, staged))
                except ImageError as error:
                    log.warning("a picture is not stored: %s", error)
            with self._changing_files(alone=False) as session:
                for each in staged:
                    self.pictures.keep(each)
                session.add_all(rows)
        except OSError as error:
            raise _of_files(error) from error
        finally:
            for each in staged:
                self.pictures.discard(each)
        return {row.id for row in rows}

    def _row(self, capture: Capture, staged: list[Staged]) -> Picture:
        """The rows of a picture; its files are appended to ``staged``."""
        pixels = load_colour(capture.content, max_pixels=capture.width * capture.height)
        files: list[Staged] = []

        def file(part: Pixels) -> str:
            files.append(self.pictures.stage(encode(part)))
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
        return Picture(
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
        """Store what a user says; it is on the disk when this returns.

        Args:
            entry: id of a picture.
            plate: which of its predictions; None speaks of the picture: that a plate was "missed", or
                with "right" that none was.
            verdict: one of VERDICTS.
            correction: what is right, of a plate that is wrong or was missed.
            now: with a zone; by default the time.

        Raises:
            UnknownEntryError: there is no such picture, or it has no such plate.
            CorrectionError: the correction breaks the grammar, or does not go with the verdict; or the
                picture has MOST_FEEDBACK already.
            StoreError: the database fails.
        """
        _check_id(entry)
        _check_verdict(plate, verdict, correction)
        with self.writing() as session:
            picture = session.get(Picture, entry)
            if picture is None:
                raise _unknown(entry)
            if plate is not None and session.get(Prediction, (entry, plate)) is None:
                raise UnknownEntryError(f"the picture has no plate {plate}; the first is 0")
            of_picture = select(func.count()).where(Feedback.picture_id == entry)
            if (session.scalar(of_picture) or 0) >= MOST_FEEDBACK:
                raise CorrectionError(f"a picture takes {MOST_FEEDBACK} times feedback, no more")
            checked = correction.checked(picture.width, picture.height)
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
                # Another server has deleted the picture since.
                raise _unknown(entry) from None
        return feedback

    def delete(self, entry: str) -> None:
        """Delete a picture with all that belongs to it, and its files.

        Raises:
            UnknownEntryError: there is none of that id.
            StoreError: the database fails, and the picture is still there; or the folder does, and its files
                are deleted by the next ``purge``.
        """
        _check_id(entry)
        if not self._delete([entry]):
            raise _unknown(entry)

    def purge(self, now: datetime) -> int:
        """Delete what is older than it may be, and files that no row names.

        Args:
            now: with a zone.

        Returns:
            How many pictures were deleted.

        Raises:
            StoreError: the database or the folder fails.
        """
        old = select(Picture.id).where(Picture.created < now - self._kept).limit(_TOGETHER)
        deleted = 0
        while True:
            with self.reading() as session:
                entries = session.scalars(old).all()
            if not entries:
                break
            deleted += self._delete(entries)
        self._sweep()
        return deleted

    def _delete(self, entries: Sequence[str]) -> int:
        """Delete pictures; returns how many were there."""
        with self.writing() as session:
            pictures = select(Picture.file).where(Picture.id.in_(entries))
            crops = select(Prediction.crop).where(Prediction.picture_id.in_(entries))
            names = {*session.scalars(pictures), *session.scalars(crops)}
            gone = session.scalars(
                delete(Picture).where(Picture.id.in_(entries)).returning(Picture.id)
            ).all()
        # The rows are gone on the disk before the files are: the other way round, whoever is killed in
        # between leaves rows without a picture. Files without a row are removed by the next purge.
        with self._changing_files(alone=True) as session:
            self._remove_unnamed(session, names)
        self._database.checkpoint()
        return len(gone)

    def _sweep(self) -> None:
        """Delete files that no row names: a server may be killed between the two."""
        try:
            self.pictures.remove_abandoned()
            found = list(self.pictures.names())
        except OSError as error:
            raise _of_files(error) from error
        for start in range(0, len(found), _TOGETHER):
            part = found[start : start + _TOGETHER]
            with self.reading() as session:
                suspects = set(part) - _named(session, part)
            if suspects:
                # Their rows may be on their way: with the lock that is known.
                with self._changing_files(alone=True) as session:
                    self._remove_unnamed(session, suspects)

    def _remove_unnamed(self, session: Session, names: Iterable[str]) -> None:
        for name in set(names) - _named(session, names):
            self.pictures.remove(name)

    @contextmanager
    def _changing_files(self, alone: bool) -> Iterator[Session]:
        try:
            with self.writing() as session:
                self._database.lock_files(session, alone)
                yield session
        except OSError as error:
            raise _of_files(error) from error


def _named(session: Session, names: Iterable[str]) -> set[str]:
    """Those of the files that a row names."""
    wanted = list(names)
    pictures = select(Picture.file).where(Picture.file.in_(wanted))
    crops = select(Prediction.crop).where(Prediction.crop.in_(wanted))
    return {*session.scalars(pictures), *session.scalars(crops)}


def _check_verdict(plate: int | None, verdict: str, correction: Correction) -> None:
    if verdict not in VERDICTS:
        raise CorrectionError(f"the verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
    if verdict == "wrong" and plate is None:
        raise CorrectionError(
            '"wrong" needs the number of a plate; one that is not there was "missed"'
        )
    if verdict == "missed" and plate is not None:
        raise CorrectionError('a plate that was "missed" has no number')
    if verdict == "right" and correction:
        raise CorrectionError('what is "right" needs no correction')


def _check_id(entry: str) -> None:
    # PostgreSQL takes not every character, and would call that a failure.
    if not _ID.fullmatch(entry):
        raise _unknown(entry)


def _unknown(entry: str) -> UnknownEntryError:
    return UnknownEntryError(f"there is no picture {entry!r}; it may have been deleted")


def _of_files(error: OSError) -> StoreError:
    where = f"{error.filename}: " if error.filename else ""
    return StoreError(
        f"{where}pictures cannot be written: {error.strerror or error}. Free some space, or make the "
        "folder writable."
    )
