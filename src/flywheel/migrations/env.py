"""Run Alembic's migrations in versions/ in the transaction begun by src/flywheel/database.py.

Alembic runs this file by its path, outside any package, so everything it needs is passed in.
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
