"""Runs the revisions on the connection that `store.database.migrate` hands over, inside its lock."""

from alembic import context

from orchestrator.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
