"""pre: the runs of an agent, without reading those of others.

Neither column of the index changes after a run's first call, so counting further calls of it
costs the index nothing.
"""

revision = "0006"
down_revision = "0005"

STATEMENTS = ["CREATE INDEX run_by_agent ON run (org, agent)"]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
