"""The tables of the store. A change here needs a new file in migrations/versions.

A picture is what one request sent, its predictions are the plates that were found in it. Feedback and
reviews are only ever added: of those that speak of the same plate the latest counts.
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
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

VERDICTS = ("right", "wrong", "missed")
"""What a user says. Of no plate in particular, "right" means that none was missed."""
STATES = ("pending", "accepted", "corrected", "rejected")
"""What a reviewer decided; a plate without a review is pending as well."""


class UtcTime(TypeDecorator[datetime]):
    """A time that knows its zone, in databases that keep none as well."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time needs a zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class Identity(Base):
    """One row: by its id the folder of pictures knows whose it is."""

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class Picture(Base):
    """A picture that was read.

    Attributes:
        id: 32 hexadecimal digits that nobody can guess.
        sha256: of the file as it was sent; one picture that was sent twice has two rows.
        file: name of the stored picture (src/flywheel/pictures.py), the right way up, shrunk where it
            is large; its corners are those of the predictions, by the ratio of the widths.
        bytes: of its files.
        width: of the displayed picture, in pixels; all corners refer to these.
        height: likewise.
        model: version of the bundle that read it.
        created: when it was read.
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
    """A plate of a picture, as the reader saw it.

    Attributes:
        plate: its place among those of the picture, 0 has the highest confidence.
        text: what was read, however unlikely.
        is_given: whether the answer gave the text, or was null as of a foreign plate.
        confidence: calibrated probability that the text is right.
        char_confidences: of the canton and of each digit.
        corners: four of x, y, clockwise from the plate's own top left.
        lines: 1 or 2.
        score: the localizer's probability that there is a plate.
        crop: name of the stored crop: the plate's upright box with a margin, in full resolution.
        crop_box: x1, y1, x2, y2 of the crop in the displayed picture.
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
        """Of the text, such as ZH."""
        return self.text[:2]

    @property
    def number(self) -> str:
        """Of the text, such as 123456."""
        return self.text[2:]


class Feedback(Base):
    """What a user said of a plate, or of the picture where ``plate`` is None.

    Attributes:
        number: later ones are higher.
        verdict: one of VERDICTS.
        text: the correct one, if it is known.
        corners: likewise, as those of a prediction.
        lines: likewise.
        created: when it was said.
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
    """What a reviewer decided of a plate, or of one that was missed where ``plate`` is None.

    Attributes:
        number: later ones are higher.
        state: one of STATES.
        text: the true one.
        corners: likewise, as those of a prediction.
        lines: likewise.
        reviewer: who decided, in any words.
        created: when it was decided.
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
