"""Alembic's entry: runs the steps on the connection that the caller holds.

The caller (`storage.sqlite.migrate`) has already begun the transaction and owns the lock,
so that a schema change is whole or absent.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=False,
)
context.run_migrations()
