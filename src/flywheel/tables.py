"""Database tables of the store; a change here needs a new file in migrations/versions.

A ``Image`` is an image sent in one request, and its predictions are the plates found in it. Feedback
and reviews are only ever added: of several on the same plate, the latest counts. Events of videos and
cameras stand alone: no other row refers to them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

VERDICTS = ("right", "wrong", "missed")
"""Verdicts of a user. Without a particular plate, "right" means that no plate was missed."""
STATES = ("pending", "accepted", "corrected", "rejected")
"""Decisions of a reviewer; a plate without a review is pending as well."""


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware time, even in databases that do not store time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("the time must have a time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base class of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class Identity(Base):
    """A single row whose id marks the folder of images as belonging to this database."""

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class StoredImage(Base):
    """An image that was read.

    Attributes:
        id: Unguessable id, 32 hexadecimal digits.
        sha256: SHA-256 hash of the file as it was sent; an image that was sent twice has two rows.
        file: Name of the stored image (src/flywheel/images.py), upright and downscaled if it is large.
            The predicted corners apply to it when scaled by the ratio of the widths.
        bytes: Total size of its files in bytes.
        width: Width of the displayed image in pixels, which all corners refer to.
        height: Height of the displayed image in pixels, which all corners refer to.
        model: Version of the bundle that read the image.
        created: Time at which the image was read.
    """

    __tablename__ = "pictures"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    file: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    model: Mapped[str] = mapped_column(String(255))
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)

    predictions: Mapped[list[Prediction]] = relationship(
        order_by="Prediction.plate", passive_deletes=True
    )
    feedback: Mapped[list[Feedback]] = relationship(
        order_by="Feedback.number", passive_deletes=True
    )
    reviews: Mapped[list[Review]] = relationship(order_by="Review.number", passive_deletes=True)


class Prediction(Base):
    """A plate in an image, as predicted by the reader.

    Attributes:
        plate: Index of the plate in the image; 0 has the highest confidence.
        text: Text that was read, however unlikely.
        is_given: Whether the response contained the text; otherwise it was null, as for a foreign plate.
        confidence: Calibrated probability that the text is right.
        char_confidences: Confidence of the canton and of each digit.
        corners: Four corners x, y, clockwise from the plate's own top left.
        lines: Number of lines, 1 or 2.
        score: Localizer's probability that there is a plate.
        crop: Name of the stored crop, the plate's upright box with a margin at full resolution.
        crop_box: Box of the crop in the displayed image: x1, y1, x2, y2.
    """

    __tablename__ = "predictions"

    picture_id: Mapped[str] = mapped_column(
        ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True
    )
    plate: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(16))
    is_given: Mapped[bool]
    confidence: Mapped[float] = mapped_column(Double)
    char_confidences: Mapped[list[float]] = mapped_column(JSON)
    corners: Mapped[list[list[float]]] = mapped_column(JSON)
    lines: Mapped[int]
    score: Mapped[float] = mapped_column(Double)
    crop: Mapped[str] = mapped_column(String(64), index=True)
    crop_box: Mapped[list[int]] = mapped_column(JSON)

    @property
    def canton(self) -> str:
        """Canton in the text, such as ZH."""
        return self.text[:2]

    @property
    def number(self) -> str:
        """Number in the text, such as 123456."""
        return self.text[2:]


class Feedback(Base):
    """Feedback from a user on a plate, or on the whole image where ``plate`` is None.

    Attributes:
        number: Primary key; later feedback has a higher number.
        verdict: One of ``VERDICTS``.
        text: Correct text, if it is known.
        corners: Correct corners in the format of a prediction, if they are known.
        lines: Correct number of lines, if it is known.
        created: Time at which the feedback was given.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        ForeignKeyConstraint(
            ["picture_id", "plate"],
            ["predictions.picture_id", "predictions.plate"],
            ondelete="CASCADE",
        ),
        Index(None, "picture_id", "plate"),
        CheckConstraint(f"verdict IN {VERDICTS}", "verdict"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    picture_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    plate: Mapped[int | None]
    verdict: Mapped[str] = mapped_column(String(16))
    text: Mapped[str | None] = mapped_column(String(16))
    corners: Mapped[list[list[float]] | None] = mapped_column(JSON(none_as_null=True))
    lines: Mapped[int | None]
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)


class Review(Base):
    """A reviewer's decision on a plate, or on one that was missed where ``plate`` is None.

    Attributes:
        number: Primary key; later reviews have a higher number.
        state: One of ``STATES``.
        text: Corrected text, if it was corrected.
        corners: Corrected corners in the format of a prediction, if they were corrected.
        lines: Corrected number of lines, if it was corrected.
        reviewer: Name of the reviewer, as free text.
        created: Time of the decision.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        ForeignKeyConstraint(
            ["picture_id", "plate"],
            ["predictions.picture_id", "predictions.plate"],
            ondelete="CASCADE",
        ),
        Index(None, "picture_id", "plate"),
        CheckConstraint(f"state IN {STATES}", "state"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    picture_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    plate: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16), index=True)
    text: Mapped[str | None] = mapped_column(String(16))
    corners: Mapped[list[list[float]] | None] = mapped_column(JSON(none_as_null=True))
    lines: Mapped[int | None]
    reviewer: Mapped[str] = mapped_column(String(255))
    created: Mapped[datetime] = mapped_column(UtcTime)


class StoredEvent(Base):
    """A vehicle that a video or a camera has seen; the latest revision of its event.

    Attributes:
        id: Id of the event.
        revision: Revision of the event, counted from 1.
        source: Name of the source.
        plate: Text, or None where none was probable enough.
        colour: Colour of the plate's ground, or None where it could not be told.
        seen: When the vehicle was first seen; for a video file, whose time nobody knows, when its event was
            stored.
        kept_until: When the row is to be deleted.
        event: The event as it was given, without its image (src/video/events.py).
        image: The best frame as JPEG, if it is kept. It is loaded only when it is asked for.
    """

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[int]
    source: Mapped[str] = mapped_column(Text)
    plate: Mapped[str | None] = mapped_column(String(16), index=True)
    colour: Mapped[str | None] = mapped_column(String(16))
    seen: Mapped[datetime] = mapped_column(UtcTime, index=True)
    kept_until: Mapped[datetime] = mapped_column(UtcTime, index=True)
    event: Mapped[dict[str, Any]] = mapped_column(JSON)
    image: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
