"""pre: budgets, their windows, holds, postings, gates, incidents and approvals.

Counters have CHECKs beside the decisions that keep them, so that a defect fails a commit instead
of being stored. `budget_window`, because WINDOW is a reserved word in PostgreSQL.
"""

revision = "0002"
down_revision = "0001"

STATEMENTS = [
    """CREATE TABLE budget (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        name TEXT NOT NULL, scope TEXT NOT NULL, metric TEXT NOT NULL,
        period TEXT NOT NULL, zone TEXT NOT NULL, reset_hour INTEGER NOT NULL,
        limit_amount INTEGER NOT NULL CHECK (limit_amount > 0),
        mode TEXT NOT NULL CHECK (mode IN ('hard', 'soft')), thresholds TEXT NOT NULL,
        unpriced TEXT NOT NULL CHECK (unpriced IN ('block', 'allow')),
        on_expiry TEXT NOT NULL CHECK (on_expiry IN ('release', 'suspense')),
        requires_hold INTEGER NOT NULL CHECK (requires_hold IN (0, 1)),
        source TEXT NOT NULL, created_at INTEGER NOT NULL, deleted_at INTEGER,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    # `member` is the run that a budget per run counts, else empty.
    """CREATE TABLE budget_window (
        org INTEGER NOT NULL, budget BLOB NOT NULL, member TEXT NOT NULL, starts_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL CHECK (ends_at > starts_at),
        limit_amount INTEGER NOT NULL CHECK (limit_amount > 0),
        state TEXT NOT NULL CHECK (state IN ('open', 'closing', 'closed')),
        settled INTEGER NOT NULL CHECK (settled >= 0),
        held INTEGER NOT NULL CHECK (held >= 0),
        overrun INTEGER NOT NULL CHECK (overrun >= 0),
        unheld INTEGER NOT NULL CHECK (unheld >= 0),
        lowered INTEGER NOT NULL CHECK (lowered >= 0),
        late INTEGER NOT NULL CHECK (late >= 0),
        unpriced INTEGER NOT NULL CHECK (unpriced >= 0),
        open_legs INTEGER NOT NULL CHECK (open_legs >= 0 AND (open_legs = 0 OR state <> 'closed')),
        alerted TEXT NOT NULL,
        has_incident INTEGER NOT NULL CHECK (has_incident IN (0, 1)),
        touched_at INTEGER NOT NULL,
        PRIMARY KEY (org, budget, member, starts_at)
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX budget_window_running ON budget_window (org, budget, ends_at)
        WHERE state <> 'closed'""",
    """CREATE TABLE hold (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        key BLOB NOT NULL CHECK (length(key) = 16), digest BLOB NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('open', 'settled', 'voided', 'expired', 'suspense', 'settled_late')),
        kind TEXT NOT NULL CHECK (kind IN ('call', 'lease')),
        call TEXT NOT NULL, amounts TEXT NOT NULL, legs BLOB NOT NULL,
        created_at INTEGER NOT NULL, deadline_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
        max_output_tokens INTEGER CHECK (max_output_tokens > 0), parent BLOB,
        settle_key BLOB, settled TEXT, lease BLOB,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX hold_by_key ON hold (org, key)",
    "CREATE INDEX hold_open ON hold (org, expires_at) WHERE state = 'open'",
    "CREATE INDEX hold_suspense ON hold (org, id) WHERE state = 'suspense'",
    # One row a settlement; `part` counts the rows of one source, which corrections add to.
    """CREATE TABLE posting (
        org INTEGER NOT NULL, source BLOB NOT NULL, part INTEGER NOT NULL,
        effect TEXT NOT NULL CHECK (effect IN ('settled', 'late', 'unheld', 'corrected')),
        at INTEGER NOT NULL, parts BLOB NOT NULL,
        PRIMARY KEY (org, source, part)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE gate (
        org INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('organisation', 'project', 'agent')), name TEXT NOT NULL,
        epoch INTEGER NOT NULL CHECK (epoch > 0), stops TEXT NOT NULL,
        PRIMARY KEY (org, kind, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE incident (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        budget BLOB NOT NULL, member TEXT NOT NULL, starts_at INTEGER NOT NULL,
        opened_at INTEGER NOT NULL, amount INTEGER NOT NULL,
        resolution TEXT NOT NULL
            CHECK (resolution IN ('open', 'raised', 'raised_until', 'kept_stopped')),
        actor TEXT NOT NULL, note TEXT NOT NULL,
        limit_before INTEGER NOT NULL, until INTEGER,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE approval (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        incident BLOB NOT NULL, at INTEGER NOT NULL,
        resolution TEXT NOT NULL CHECK (resolution IN ('raised', 'raised_until', 'kept_stopped')),
        actor TEXT NOT NULL, note TEXT NOT NULL, limit_amount INTEGER NOT NULL, until INTEGER,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE output_sketch (
        org INTEGER NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL,
        counts BLOB NOT NULL, margin_ppm INTEGER NOT NULL CHECK (margin_ppm >= 0),
        PRIMARY KEY (org, agent, model)
    ) STRICT, WITHOUT ROWID""",
    # The last time by which something was decided: a restart must not go behind it.
    "CREATE TABLE decision_clock (org INTEGER PRIMARY KEY, last_at INTEGER NOT NULL) STRICT",
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
