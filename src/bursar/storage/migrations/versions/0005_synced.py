"""pre: what clients ask for at their start, and whom alerts go to.

`synced_config` keeps what a client of an agent (of the organisation, where `agent` is empty) asked for last,
so that a start that asks for the same undoes nothing that a person has changed since.
"""

revision = "0005"
down_revision = "0004"

STATEMENTS = [
    """CREATE TABLE alert_config (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        agent TEXT NOT NULL, channel TEXT NOT NULL, share_ppm INTEGER NOT NULL CHECK (share_ppm > 0),
        metric TEXT NOT NULL, target TEXT, secret TEXT,
        is_delivered INTEGER NOT NULL CHECK (is_delivered IN (0, 1)),
        source TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX alert_config_by_agent ON alert_config (org, agent, id)",
    """CREATE TABLE synced_config (
        org INTEGER NOT NULL, agent TEXT NOT NULL, body TEXT NOT NULL, synced_at INTEGER NOT NULL,
        PRIMARY KEY (org, agent)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX alert_by_time ON alert (org, at, id)",
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
