"""pre: the ledger, its directory, prices, keys and audit.

Every key begins with the organisation, except `api_key_hash` (a key must be found before its organisation
is known) and `organisation` itself. Tables are STRICT, so a sum that would leave 64 bits
(SQLite would turn it into a REAL) is refused instead of stored.
"""

revision = "0001"
down_revision = None

_MEASURES = """
    requests INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL,
    unpriced_tokens INTEGER NOT NULL,
    cost_nusd INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    media_tokens INTEGER NOT NULL,
    web_searches INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL
"""

_SPREAD = """
    durations BLOB NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL
"""

# One shape for `event` and `entry`: an event that was never revised is its own entry. The
# virtual columns unpack `flags` (ledger/rows.py) for readers; they take no space.
_ENTRY = """
    occurred_at INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 16),
    batch INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    model INTEGER NOT NULL,
    project INTEGER NOT NULL,
    feature INTEGER NOT NULL,
    user INTEGER NOT NULL,
    api_key INTEGER NOT NULL,
    run BLOB,
    session BLOB,
    hold BLOB,
    input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
    output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
    cache_read_tokens INTEGER NOT NULL CHECK (cache_read_tokens >= 0),
    cache_write_5m_tokens INTEGER NOT NULL CHECK (cache_write_5m_tokens >= 0),
    cache_write_1h_tokens INTEGER NOT NULL CHECK (cache_write_1h_tokens >= 0),
    media TEXT,
    duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
    flags INTEGER NOT NULL,
    reported_nusd INTEGER CHECK (reported_nusd >= 0),
    card INTEGER NOT NULL,
    computed_nusd INTEGER CHECK (computed_nusd >= 0),
    attributes TEXT,
    cost_nusd INTEGER GENERATED ALWAYS AS (
        CASE flags >> 14 & 3 WHEN 1 THEN computed_nusd WHEN 2 THEN reported_nusd END) VIRTUAL,
    is_error INTEGER GENERATED ALWAYS AS (flags & 1) VIRTUAL,
    billing INTEGER GENERATED ALWAYS AS (flags >> 3 & 1) VIRTUAL,
    source INTEGER GENERATED ALWAYS AS (flags >> 8 & 63) VIRTUAL,
    media_tokens INTEGER GENERATED ALWAYS AS (CASE WHEN media IS NULL THEN 0 ELSE
        coalesce(media ->> 'input_audio_tokens', 0) + coalesce(media ->> 'output_audio_tokens', 0)
        + coalesce(media ->> 'input_image_tokens', 0) + coalesce(media ->> 'output_image_tokens', 0)
        END) VIRTUAL,
    web_searches INTEGER GENERATED ALWAYS AS (
        CASE WHEN media IS NULL THEN 0 ELSE coalesce(media ->> 'web_searches', 0) END) VIRTUAL
"""

_ENTRY_COLUMNS = """
    occurred_at, key, batch, agent, model, project, feature, user, api_key, run, session, hold,
    input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, media, duration_ms, flags, reported_nusd, card, computed_nusd, attributes,
    cost_nusd, is_error, billing, source, media_tokens, web_searches
"""

# Each statement on its own: a failed step must name the one that failed.
STATEMENTS = [
    """CREATE TABLE organisation (
        org INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        zone TEXT NOT NULL,
        currency TEXT NOT NULL,
        cost_basis TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE agent (
        org INTEGER NOT NULL, agent INTEGER NOT NULL,
        id BLOB NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, agent), UNIQUE (org, name), UNIQUE (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE project (
        org INTEGER NOT NULL, project INTEGER NOT NULL,
        id BLOB NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, project), UNIQUE (org, name), UNIQUE (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE model (
        org INTEGER NOT NULL, model INTEGER NOT NULL,
        provider TEXT NOT NULL, name TEXT NOT NULL,
        canonical_provider TEXT NOT NULL, canonical_name TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, model), UNIQUE (org, provider, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE feature (
        org INTEGER NOT NULL, feature INTEGER NOT NULL, name TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, feature), UNIQUE (org, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE user_label (
        org INTEGER NOT NULL, user INTEGER NOT NULL, name TEXT NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (org, user), UNIQUE (org, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE api_key (
        org INTEGER NOT NULL, api_key INTEGER NOT NULL,
        id BLOB NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL, hash BLOB NOT NULL,
        scopes TEXT NOT NULL, project TEXT NOT NULL, agent TEXT NOT NULL,
        is_active INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER,
        revoked_at INTEGER, last_used_at INTEGER,
        auth_failures_count INTEGER NOT NULL DEFAULT 0, last_failed_at INTEGER,
        PRIMARY KEY (org, api_key), UNIQUE (org, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE api_key_hash (
        hash BLOB PRIMARY KEY, org INTEGER NOT NULL, api_key INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE event_key (
        org INTEGER NOT NULL, key BLOB NOT NULL CHECK (length(key) = 16),
        occurred_at INTEGER NOT NULL, revision INTEGER NOT NULL,
        PRIMARY KEY (org, key)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE event (
        org INTEGER NOT NULL,
        {_ENTRY},
        PRIMARY KEY (org, occurred_at, key)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE entry (
        org INTEGER NOT NULL, seq INTEGER NOT NULL,
        sign INTEGER NOT NULL CHECK (sign IN (-1, 1)),
        revision INTEGER NOT NULL, reason TEXT NOT NULL, corrects INTEGER,
        {_ENTRY},
        PRIMARY KEY (org, seq)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX entry_by_time ON entry (org, occurred_at)",
    "CREATE INDEX entry_by_key ON entry (org, key, seq)",
    f"""CREATE VIEW ledger_entry AS
        SELECT org, 1 AS sign, {_ENTRY_COLUMNS} FROM event
        UNION ALL
        SELECT org, sign, {_ENTRY_COLUMNS} FROM entry""",
    """CREATE TABLE unpriced_event (
        org INTEGER NOT NULL, model INTEGER NOT NULL, occurred_at INTEGER NOT NULL, key BLOB NOT NULL,
        PRIMARY KEY (org, model, occurred_at, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE batch (
        org INTEGER NOT NULL, seq INTEGER NOT NULL,
        committed_at INTEGER NOT NULL, hours TEXT NOT NULL, events INTEGER NOT NULL, entries INTEGER NOT NULL,
        PRIMARY KEY (org, seq)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE rollup_agent (
        org INTEGER NOT NULL, hour INTEGER NOT NULL, agent INTEGER NOT NULL, model INTEGER NOT NULL,
        billing INTEGER NOT NULL, {_MEASURES}, {_SPREAD},
        PRIMARY KEY (org, hour, agent, model, billing)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE rollup_project (
        org INTEGER NOT NULL, hour INTEGER NOT NULL, project INTEGER NOT NULL, model INTEGER NOT NULL,
        {_MEASURES}, {_SPREAD},
        PRIMARY KEY (org, hour, project, model)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE rollup_feature (
        org INTEGER NOT NULL, hour INTEGER NOT NULL, feature INTEGER NOT NULL, {_MEASURES},
        PRIMARY KEY (org, hour, feature)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE rollup_user (
        org INTEGER NOT NULL, hour INTEGER NOT NULL, user INTEGER NOT NULL, {_MEASURES},
        PRIMARY KEY (org, hour, user)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE agent_total (
        org INTEGER NOT NULL, agent INTEGER NOT NULL, {_MEASURES},
        first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
        PRIMARY KEY (org, agent)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE run (
        org INTEGER NOT NULL, run BLOB NOT NULL,
        external_id TEXT, parent BLOB, agent INTEGER NOT NULL, {_MEASURES},
        first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
        PRIMARY KEY (org, run)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX run_by_parent ON run (org, parent) WHERE parent IS NOT NULL",
    """CREATE TABLE rate_card (
        org INTEGER NOT NULL, card INTEGER NOT NULL,
        digest BLOB NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, service_tier INTEGER NOT NULL,
        lines TEXT NOT NULL, origin TEXT NOT NULL, first_used_at INTEGER NOT NULL,
        PRIMARY KEY (org, card), UNIQUE (org, digest)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE price_override (
        org INTEGER NOT NULL, pattern TEXT NOT NULL, service_tier INTEGER NOT NULL,
        valid_from INTEGER NOT NULL, valid_to INTEGER,
        id BLOB NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
        created_at INTEGER NOT NULL, actor TEXT NOT NULL,
        PRIMARY KEY (org, pattern, service_tier, valid_from), UNIQUE (org, id), UNIQUE (org, seq)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE prompt (
        org INTEGER NOT NULL, occurred_at INTEGER NOT NULL, key BLOB NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (org, occurred_at, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE quarantine (
        org INTEGER NOT NULL, seq INTEGER NOT NULL,
        key BLOB NOT NULL, received_at INTEGER NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (org, seq), UNIQUE (org, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE audit (
        org INTEGER NOT NULL, seq INTEGER NOT NULL,
        at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, details TEXT,
        PRIMARY KEY (org, seq)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE import_cursor (
        org INTEGER NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (org, source, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE audit_mark (
        org INTEGER NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,
        PRIMARY KEY (org, name)
    ) STRICT, WITHOUT ROWID""",
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
