"""Create the table of events of videos and cameras."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("plate", sa.String(16)),
        sa.Column("colour", sa.String(16)),
        sa.Column("seen", TIME, nullable=False),
        sa.Column("kept_until", TIME, nullable=False),
        sa.Column("event", sa.JSON, nullable=False),
        sa.Column("image", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    for column in ("plate", "seen", "kept_until"):
        op.create_index(f"ix_events_{column}", "events", [column])
