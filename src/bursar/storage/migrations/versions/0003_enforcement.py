"""pre: what enforcement adds to budgets: templates, repeated calls, ends of holds and raises, alerts.

`posting` gets an index by time, so that what was posted since the last audit is found without
reading the rest.
"""

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    "ALTER TABLE budget ADD COLUMN is_template INTEGER NOT NULL DEFAULT 0 CHECK (is_template IN (0, 1))",
    # Fingerprints of the window's latest calls, for budgets that count repetitions; else empty.
    "ALTER TABLE budget_window ADD COLUMN recent TEXT NOT NULL DEFAULT ''",
    # When the hold left `open` or `suspense` for good: what held how much at a moment.
    "ALTER TABLE hold ADD COLUMN ended_at INTEGER",
    # Clients that spend by leases are counted at each renewal, without reading the holds of calls.
    "CREATE INDEX hold_leases ON hold (org, id) WHERE state = 'open' AND kind = 'lease'",
    # When a raise until a time was taken back.
    "ALTER TABLE incident ADD COLUMN ended_at INTEGER",
    """CREATE INDEX incident_due ON incident (org, until)
        WHERE resolution = 'raised_until' AND ended_at IS NULL""",
    # Another one with each change of budgets, so that a process knows whether those it keeps are the latest.
    "CREATE TABLE budget_stamp (org INTEGER PRIMARY KEY, stamp BLOB NOT NULL) STRICT",
    "CREATE INDEX posting_by_time ON posting (org, at)",
    """CREATE TABLE alert (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        at INTEGER NOT NULL, type TEXT NOT NULL, budget BLOB, member TEXT NOT NULL, starts_at INTEGER,
        amount INTEGER NOT NULL, share_ppm INTEGER NOT NULL, agent TEXT NOT NULL, source BLOB,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX alert_by_budget ON alert (org, budget, id) WHERE budget IS NOT NULL",
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
