"""Create the tables of pictures, predictions, feedback and reviews."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    identity = op.create_table("identity", sa.Column("id", sa.String(32), nullable=False),
                               sa.PrimaryKeyConstraint("id", name="pk_identity"))  # fmt: skip
    op.bulk_insert(identity, [{"id": uuid4().hex}])
    op.create_table(
        "pictures",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pictures"),
    )
    for column in ("sha256", "file", "created"):
        op.create_index(f"ix_pictures_{column}", "pictures", [column])
    op.create_table(
        "predictions",
        sa.Column("picture_id", sa.String(32), nullable=False),
        sa.Column("plate", sa.Integer, nullable=False),
        sa.Column("text", sa.String(16), nullable=False),
        sa.Column("is_given", sa.Boolean, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("char_confidences", sa.JSON, nullable=False),
        sa.Column("corners", sa.JSON, nullable=False),
        sa.Column("lines", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("crop", sa.String(64), nullable=False),
        sa.Column("crop_box", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("picture_id", "plate", name="pk_predictions"),
        _of_picture("predictions"),
    )
    op.create_index("ix_predictions_crop", "predictions", ["crop"])
    op.create_table(
        "feedback",
        *_judgement("feedback"),
        sa.Column("verdict", sa.String(16), nullable=False),
        *_truth(),
        sa.Column("created", TIME, nullable=False),
        sa.CheckConstraint("verdict IN ('right', 'wrong', 'missed')", op.f("ck_feedback_verdict")),
    )
    op.create_index("ix_feedback_picture_id_plate", "feedback", ["picture_id", "plate"])
    op.create_index("ix_feedback_created", "feedback", ["created"])
    op.create_table(
        "reviews",
        *_judgement("reviews"),
        sa.Column("state", sa.String(16), nullable=False),
        *_truth(),
        sa.Column("reviewer", sa.String(255), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'accepted', 'corrected', 'rejected')", op.f("ck_reviews_state")
        ),
    )
    op.create_index("ix_reviews_picture_id_plate", "reviews", ["picture_id", "plate"])
    op.create_index("ix_reviews_state", "reviews", ["state"])


def _of_picture(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["picture_id"], ["pictures.id"], name=f"fk_{table}_picture_id", ondelete="CASCADE"
    )


def _judgement(table: str) -> list[sa.schema.SchemaItem]:
    """Return the leading columns and the constraints that feedback and reviews share."""
    return [
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("picture_id", sa.String(32), nullable=False),
        sa.Column("plate", sa.Integer),
        sa.PrimaryKeyConstraint("number", name=f"pk_{table}"),
        _of_picture(table),
        sa.ForeignKeyConstraint(
            ["picture_id", "plate"],
            ["predictions.picture_id", "predictions.plate"],
            name=f"fk_{table}_picture_id_plate",
            ondelete="CASCADE",
        ),
    ]


def _truth() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("text", sa.String(16)),
        sa.Column("corners", sa.JSON),
        sa.Column("lines", sa.Integer),
    ]
