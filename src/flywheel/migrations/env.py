"""How Alembic runs the files in versions/: in the transaction that src/flywheel/database.py began."""

from __future__ import annotations

from alembic import context

from src.flywheel.database import VERSION_TABLE
from src.flywheel.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
