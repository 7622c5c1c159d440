"""How Alembic runs the files in versions/: in the transaction that src/flywheel/database.py began.

Alembic runs this file by its path, outside of any package, so all that it needs is handed over.
"""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    version_table=attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
