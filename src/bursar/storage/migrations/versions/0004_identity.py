"""pre: people: users, memberships, sessions, codes, personal tokens, invitations, signing keys.

A person may belong to several organisations, so what belongs to the person is global: `user_account` (USER
is a reserved word in PostgreSQL), `session`, `one_time_code`, `personal_token`, `external_identity`. Of a
secret only its hash is kept; `signing_key` holds secrets of this installation itself.
"""

revision = "0004"
down_revision = "0003"

STATEMENTS = [
    "ALTER TABLE organisation ADD COLUMN deleted_at INTEGER",
    """ALTER TABLE organisation ADD COLUMN subscription_status TEXT NOT NULL DEFAULT 'active'
        CHECK (subscription_status IN ('active', 'paused', 'cancelled'))""",
    "ALTER TABLE organisation ADD COLUMN plan TEXT NOT NULL DEFAULT 'self_hosted'",
    # NULL means without a limit.
    "ALTER TABLE organisation ADD COLUMN events_per_day INTEGER CHECK (events_per_day > 0)",
    "ALTER TABLE organisation ADD COLUMN burst_per_s INTEGER CHECK (burst_per_s > 0)",
    "ALTER TABLE organisation ADD COLUMN max_agents INTEGER CHECK (max_agents > 0)",
    # What a dashboard shows and how, as JSON; nothing here decides about money.
    "ALTER TABLE organisation ADD COLUMN display TEXT NOT NULL DEFAULT '{}'",
    # A key that was rotated with an overlap works until `ends_at`.
    "ALTER TABLE api_key ADD COLUMN replaced_by BLOB",
    "ALTER TABLE api_key ADD COLUMN ends_at INTEGER",
    """CREATE TABLE user_account (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        email TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        password_epoch INTEGER NOT NULL DEFAULT 0,
        first_name TEXT NOT NULL, last_name TEXT NOT NULL,
        created_at INTEGER NOT NULL, verified_at INTEGER, disabled_at INTEGER
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE membership (
        org INTEGER NOT NULL, user BLOB NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'finance', 'member', 'viewer')),
        created_at INTEGER NOT NULL,
        PRIMARY KEY (org, user)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX membership_by_user ON membership (user, created_at, org)",
    """CREATE TABLE session (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        user BLOB NOT NULL, password_epoch INTEGER NOT NULL,
        created_at INTEGER NOT NULL, last_used_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL, ended_at INTEGER
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX session_by_user ON session (user) WHERE ended_at IS NULL",
    # One live code a purpose: a new one takes the place of the old one.
    """CREATE TABLE one_time_code (
        user BLOB NOT NULL, purpose TEXT NOT NULL,
        hash BLOB NOT NULL, tries INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
        PRIMARY KEY (user, purpose)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE throttle (
        kind TEXT NOT NULL, subject BLOB NOT NULL, starts_at INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE personal_token (
        hash BLOB PRIMARY KEY, id BLOB NOT NULL UNIQUE,
        user BLOB NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL,
        created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER, last_used_at INTEGER
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX personal_token_by_user ON personal_token (user, id)",
    """CREATE TABLE invitation (
        org INTEGER NOT NULL, id BLOB NOT NULL CHECK (length(id) = 16),
        email TEXT NOT NULL, role TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, inviter TEXT NOT NULL,
        created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, accepted_at INTEGER, revoked_at INTEGER,
        PRIMARY KEY (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE external_identity (
        issuer TEXT NOT NULL, subject TEXT NOT NULL, user BLOB NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (issuer, subject)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE signing_key (
        kid TEXT PRIMARY KEY, secret BLOB NOT NULL, created_at INTEGER NOT NULL, retired_at INTEGER
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX audit_by_time ON audit (org, at, seq)",
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
