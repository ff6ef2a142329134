"""PostgreSQL's schema as of step 0006: the tables of SQLite's steps, where this engine's history begins.

    tables, keys, CHECKs   as SQLite's; text in the order of its bytes (COLLATE "C"), as there
    event                  by month, so that an old month is detached instead of deleted
    event_key              in 16 parts by hash, so that no index of keys outgrows memory
    fillfactor             room in each page for rows that change often: their index entries stay
    row-level security     each table of organisations shows the rows of `bursar.org` alone

`storage/postgres/migrate.py` runs it with the search path set to the schema `bursar`.
"""

import re
from collections.abc import Iterator
from typing import Final

BASE: Final = "0006"

KEY_PARTS: Final = 16

EARLY_TO: Final = 1_577_836_800_000_000
LATE_FROM: Final = 2_208_988_800_000_000
"""2020 and 2040 UTC. What a wrong clock says was before or after is in one part each, else anybody with a
key could make a table for every month of ten thousand years."""

_MEASURES = """
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    unpriced_requests BIGINT NOT NULL,
    unpriced_tokens BIGINT NOT NULL,
    cost_nusd BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL,
    media_tokens BIGINT NOT NULL,
    web_searches BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL"""

_SPREAD = """
    durations BYTEA NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL"""

# What `flags` and `media` say is kept unpacked, at 36 bytes a row: no virtual columns before version 18.
_ENTRY = """
    occurred_at BIGINT NOT NULL,
    key BYTEA NOT NULL CHECK (length(key) = 16),
    batch BIGINT NOT NULL,
    agent BIGINT NOT NULL,
    model BIGINT NOT NULL,
    project BIGINT NOT NULL,
    feature BIGINT NOT NULL,
    "user" BIGINT NOT NULL,
    api_key BIGINT NOT NULL,
    run BYTEA,
    session BYTEA,
    hold BYTEA,
    input_tokens BIGINT NOT NULL CHECK (input_tokens >= 0),
    output_tokens BIGINT NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens BIGINT NOT NULL CHECK (reasoning_tokens >= 0),
    cache_read_tokens BIGINT NOT NULL CHECK (cache_read_tokens >= 0),
    cache_write_5m_tokens BIGINT NOT NULL CHECK (cache_write_5m_tokens >= 0),
    cache_write_1h_tokens BIGINT NOT NULL CHECK (cache_write_1h_tokens >= 0),
    media TEXT,
    duration_ms BIGINT NOT NULL CHECK (duration_ms >= 0),
    flags BIGINT NOT NULL,
    reported_nusd BIGINT CHECK (reported_nusd >= 0),
    card BIGINT NOT NULL,
    computed_nusd BIGINT CHECK (computed_nusd >= 0),
    attributes TEXT,
    cost_nusd BIGINT GENERATED ALWAYS AS (
        CASE flags >> 14 & 3 WHEN 1 THEN computed_nusd WHEN 2 THEN reported_nusd END) STORED,
    is_error SMALLINT GENERATED ALWAYS AS ((flags & 1)::smallint) STORED,
    billing SMALLINT GENERATED ALWAYS AS ((flags >> 3 & 1)::smallint) STORED,
    source SMALLINT GENERATED ALWAYS AS ((flags >> 8 & 63)::smallint) STORED,
    media_tokens BIGINT GENERATED ALWAYS AS (CASE WHEN media IS NULL THEN 0 ELSE
        coalesce((media::jsonb ->> 'input_audio_tokens')::bigint, 0)
        + coalesce((media::jsonb ->> 'output_audio_tokens')::bigint, 0)
        + coalesce((media::jsonb ->> 'input_image_tokens')::bigint, 0)
        + coalesce((media::jsonb ->> 'output_image_tokens')::bigint, 0) END) STORED,
    web_searches BIGINT GENERATED ALWAYS AS (CASE WHEN media IS NULL THEN 0 ELSE
        coalesce((media::jsonb ->> 'web_searches')::bigint, 0) END) STORED"""

_ENTRY_COLUMNS = """
    occurred_at, key, batch, agent, model, project, feature, "user", api_key, run, session, hold,
    input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, media, duration_ms, flags, reported_nusd, card, computed_nusd, attributes,
    cost_nusd, is_error, billing, source, media_tokens, web_searches"""

_TABLES = [
    """CREATE TABLE organisation (
        org BIGINT PRIMARY KEY,
        id BYTEA NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        zone TEXT NOT NULL,
        currency TEXT NOT NULL,
        cost_basis TEXT NOT NULL,
        created_at BIGINT NOT NULL, deleted_at BIGINT,
        subscription_status TEXT NOT NULL DEFAULT 'active'
            CHECK (subscription_status IN ('active', 'paused', 'cancelled')),
        plan TEXT NOT NULL DEFAULT 'self_hosted',
        events_per_day BIGINT CHECK (events_per_day > 0),
        burst_per_s BIGINT CHECK (burst_per_s > 0),
        max_agents BIGINT CHECK (max_agents > 0),
        display TEXT NOT NULL DEFAULT '{}'
    )""",
    """CREATE TABLE agent (
        org BIGINT NOT NULL, agent BIGINT NOT NULL,
        id BYTEA NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, agent), UNIQUE (org, name), UNIQUE (org, id)
    )""",
    """CREATE TABLE project (
        org BIGINT NOT NULL, project BIGINT NOT NULL,
        id BYTEA NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, project), UNIQUE (org, name), UNIQUE (org, id)
    )""",
    """CREATE TABLE model (
        org BIGINT NOT NULL, model BIGINT NOT NULL,
        provider TEXT NOT NULL, name TEXT NOT NULL,
        canonical_provider TEXT NOT NULL, canonical_name TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, model), UNIQUE (org, provider, name)
    )""",
    """CREATE TABLE feature (
        org BIGINT NOT NULL, feature BIGINT NOT NULL, name TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, feature), UNIQUE (org, name)
    )""",
    """CREATE TABLE user_label (
        org BIGINT NOT NULL, "user" BIGINT NOT NULL, name TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, "user"), UNIQUE (org, name)
    )""",
    """CREATE TABLE api_key (
        org BIGINT NOT NULL, api_key BIGINT NOT NULL,
        id BYTEA NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL, hash BYTEA NOT NULL,
        scopes TEXT NOT NULL, project TEXT NOT NULL, agent TEXT NOT NULL,
        is_active BIGINT NOT NULL, created_at BIGINT NOT NULL, expires_at BIGINT,
        revoked_at BIGINT, last_used_at BIGINT,
        auth_failures_count BIGINT NOT NULL DEFAULT 0, last_failed_at BIGINT,
        replaced_by BYTEA, ends_at BIGINT,
        PRIMARY KEY (org, api_key), UNIQUE (org, id)
    )""",
    """CREATE TABLE api_key_hash (
        hash BYTEA PRIMARY KEY, org BIGINT NOT NULL, api_key BIGINT NOT NULL
    )""",
    """CREATE TABLE event_key (
        org BIGINT NOT NULL, key BYTEA NOT NULL CHECK (length(key) = 16),
        occurred_at BIGINT NOT NULL, revision BIGINT NOT NULL,
        PRIMARY KEY (org, key)
    ) PARTITION BY HASH (org, key)""",
    f"""CREATE TABLE event (
        org BIGINT NOT NULL,{_ENTRY},
        PRIMARY KEY (org, occurred_at, key)
    ) PARTITION BY RANGE (occurred_at)""",
    f"""CREATE TABLE entry (
        org BIGINT NOT NULL, seq BIGINT NOT NULL,
        sign BIGINT NOT NULL CHECK (sign IN (-1, 1)),
        revision BIGINT NOT NULL, reason TEXT NOT NULL, corrects BIGINT,{_ENTRY},
        PRIMARY KEY (org, seq)
    )""",
    "CREATE INDEX entry_by_time ON entry (org, occurred_at)",
    "CREATE INDEX entry_by_key ON entry (org, key, seq)",
    f"""CREATE VIEW ledger_entry AS
        SELECT org, 1::bigint AS sign, {_ENTRY_COLUMNS} FROM event
        UNION ALL
        SELECT org, sign, {_ENTRY_COLUMNS} FROM entry""",
    """CREATE TABLE unpriced_event (
        org BIGINT NOT NULL, model BIGINT NOT NULL, occurred_at BIGINT NOT NULL, key BYTEA NOT NULL,
        PRIMARY KEY (org, model, occurred_at, key)
    )""",
    """CREATE TABLE batch (
        org BIGINT NOT NULL, seq BIGINT NOT NULL,
        committed_at BIGINT NOT NULL, hours TEXT NOT NULL, events BIGINT NOT NULL, entries BIGINT NOT NULL,
        PRIMARY KEY (org, seq)
    )""",
    f"""CREATE TABLE rollup_agent (
        org BIGINT NOT NULL, hour BIGINT NOT NULL, agent BIGINT NOT NULL, model BIGINT NOT NULL,
        billing BIGINT NOT NULL,{_MEASURES},{_SPREAD},
        PRIMARY KEY (org, hour, agent, model, billing)
    ) WITH (fillfactor = 70)""",
    f"""CREATE TABLE rollup_project (
        org BIGINT NOT NULL, hour BIGINT NOT NULL, project BIGINT NOT NULL,
        model BIGINT NOT NULL,{_MEASURES},{_SPREAD},
        PRIMARY KEY (org, hour, project, model)
    ) WITH (fillfactor = 70)""",
    f"""CREATE TABLE rollup_feature (
        org BIGINT NOT NULL, hour BIGINT NOT NULL, feature BIGINT NOT NULL,{_MEASURES},
        PRIMARY KEY (org, hour, feature)
    ) WITH (fillfactor = 70)""",
    f"""CREATE TABLE rollup_user (
        org BIGINT NOT NULL, hour BIGINT NOT NULL, "user" BIGINT NOT NULL,{_MEASURES},
        PRIMARY KEY (org, hour, "user")
    ) WITH (fillfactor = 70)""",
    f"""CREATE TABLE agent_total (
        org BIGINT NOT NULL, agent BIGINT NOT NULL,{_MEASURES},
        first_at BIGINT NOT NULL, last_at BIGINT NOT NULL,
        PRIMARY KEY (org, agent)
    ) WITH (fillfactor = 50)""",
    f"""CREATE TABLE run (
        org BIGINT NOT NULL, run BYTEA NOT NULL,
        external_id TEXT, parent BYTEA, agent BIGINT NOT NULL,{_MEASURES},
        first_at BIGINT NOT NULL, last_at BIGINT NOT NULL,
        PRIMARY KEY (org, run)
    ) WITH (fillfactor = 70)""",
    "CREATE INDEX run_by_parent ON run (org, parent) WHERE parent IS NOT NULL",
    """CREATE TABLE rate_card (
        org BIGINT NOT NULL, card BIGINT NOT NULL,
        digest BYTEA NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, service_tier BIGINT NOT NULL,
        lines TEXT NOT NULL, origin TEXT NOT NULL, first_used_at BIGINT NOT NULL,
        PRIMARY KEY (org, card), UNIQUE (org, digest)
    )""",
    """CREATE TABLE price_override (
        org BIGINT NOT NULL, pattern TEXT NOT NULL, service_tier BIGINT NOT NULL,
        valid_from BIGINT NOT NULL, valid_to BIGINT,
        id BYTEA NOT NULL, seq BIGINT NOT NULL, body TEXT NOT NULL,
        created_at BIGINT NOT NULL, actor TEXT NOT NULL,
        PRIMARY KEY (org, pattern, service_tier, valid_from), UNIQUE (org, id), UNIQUE (org, seq)
    )""",
    """CREATE TABLE prompt (
        org BIGINT NOT NULL, occurred_at BIGINT NOT NULL, key BYTEA NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (org, occurred_at, key)
    )""",
    """CREATE TABLE quarantine (
        org BIGINT NOT NULL, seq BIGINT NOT NULL,
        key BYTEA NOT NULL, received_at BIGINT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (org, seq), UNIQUE (org, key)
    )""",
    """CREATE TABLE audit (
        org BIGINT NOT NULL, seq BIGINT NOT NULL,
        at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, details TEXT,
        PRIMARY KEY (org, seq)
    )""",
    """CREATE TABLE import_cursor (
        org BIGINT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        updated_at BIGINT NOT NULL,
        PRIMARY KEY (org, source, name)
    )""",
    """CREATE TABLE audit_mark (
        org BIGINT NOT NULL, name TEXT NOT NULL, value BIGINT NOT NULL,
        PRIMARY KEY (org, name)
    )""",
    """CREATE TABLE budget (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        name TEXT NOT NULL, scope TEXT NOT NULL, metric TEXT NOT NULL,
        period TEXT NOT NULL, zone TEXT NOT NULL, reset_hour BIGINT NOT NULL,
        limit_amount BIGINT NOT NULL CHECK (limit_amount > 0),
        mode TEXT NOT NULL CHECK (mode IN ('hard', 'soft')), thresholds TEXT NOT NULL,
        unpriced TEXT NOT NULL CHECK (unpriced IN ('block', 'allow')),
        on_expiry TEXT NOT NULL CHECK (on_expiry IN ('release', 'suspense')),
        requires_hold BIGINT NOT NULL CHECK (requires_hold IN (0, 1)),
        source TEXT NOT NULL, created_at BIGINT NOT NULL, deleted_at BIGINT,
        is_template BIGINT NOT NULL DEFAULT 0 CHECK (is_template IN (0, 1)),
        PRIMARY KEY (org, id)
    )""",
    """CREATE TABLE budget_window (
        org BIGINT NOT NULL, budget BYTEA NOT NULL, member TEXT NOT NULL, starts_at BIGINT NOT NULL,
        ends_at BIGINT NOT NULL CHECK (ends_at > starts_at),
        limit_amount BIGINT NOT NULL CHECK (limit_amount > 0),
        state TEXT NOT NULL CHECK (state IN ('open', 'closing', 'closed')),
        settled BIGINT NOT NULL CHECK (settled >= 0),
        held BIGINT NOT NULL CHECK (held >= 0),
        overrun BIGINT NOT NULL CHECK (overrun >= 0),
        unheld BIGINT NOT NULL CHECK (unheld >= 0),
        lowered BIGINT NOT NULL CHECK (lowered >= 0),
        late BIGINT NOT NULL CHECK (late >= 0),
        unpriced BIGINT NOT NULL CHECK (unpriced >= 0),
        open_legs BIGINT NOT NULL CHECK (open_legs >= 0 AND (open_legs = 0 OR state <> 'closed')),
        alerted TEXT NOT NULL,
        has_incident BIGINT NOT NULL CHECK (has_incident IN (0, 1)),
        touched_at BIGINT NOT NULL, recent TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (org, budget, member, starts_at)
    ) WITH (fillfactor = 50)""",
    """CREATE INDEX budget_window_running ON budget_window (org, budget, ends_at)
        WHERE state <> 'closed'""",
    """CREATE TABLE hold (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        key BYTEA NOT NULL CHECK (length(key) = 16), digest BYTEA NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('open', 'settled', 'voided', 'expired', 'suspense', 'settled_late')),
        kind TEXT NOT NULL CHECK (kind IN ('call', 'lease')),
        call TEXT NOT NULL, amounts TEXT NOT NULL, legs BYTEA NOT NULL,
        created_at BIGINT NOT NULL, deadline_at BIGINT NOT NULL, expires_at BIGINT NOT NULL,
        max_output_tokens BIGINT CHECK (max_output_tokens > 0), parent BYTEA,
        settle_key BYTEA, settled TEXT, lease BYTEA, ended_at BIGINT,
        PRIMARY KEY (org, id)
    )""",
    "CREATE UNIQUE INDEX hold_by_key ON hold (org, key)",
    "CREATE INDEX hold_open ON hold (org, expires_at) WHERE state = 'open'",
    "CREATE INDEX hold_suspense ON hold (org, id) WHERE state = 'suspense'",
    """CREATE TABLE posting (
        org BIGINT NOT NULL, source BYTEA NOT NULL, part BIGINT NOT NULL,
        effect TEXT NOT NULL CHECK (effect IN ('settled', 'late', 'unheld', 'corrected')),
        at BIGINT NOT NULL, parts BYTEA NOT NULL,
        PRIMARY KEY (org, source, part)
    )""",
    """CREATE TABLE gate (
        org BIGINT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('organisation', 'project', 'agent')), name TEXT NOT NULL,
        epoch BIGINT NOT NULL CHECK (epoch > 0), stops TEXT NOT NULL,
        PRIMARY KEY (org, kind, name)
    ) WITH (fillfactor = 70)""",
    """CREATE TABLE incident (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        budget BYTEA NOT NULL, member TEXT NOT NULL, starts_at BIGINT NOT NULL,
        opened_at BIGINT NOT NULL, amount BIGINT NOT NULL,
        resolution TEXT NOT NULL
            CHECK (resolution IN ('open', 'raised', 'raised_until', 'kept_stopped')),
        actor TEXT NOT NULL, note TEXT NOT NULL,
        limit_before BIGINT NOT NULL, until BIGINT, ended_at BIGINT,
        PRIMARY KEY (org, id)
    )""",
    """CREATE TABLE approval (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        incident BYTEA NOT NULL, at BIGINT NOT NULL,
        resolution TEXT NOT NULL CHECK (resolution IN ('raised', 'raised_until', 'kept_stopped')),
        actor TEXT NOT NULL, note TEXT NOT NULL, limit_amount BIGINT NOT NULL, until BIGINT,
        PRIMARY KEY (org, id)
    )""",
    """CREATE TABLE output_sketch (
        org BIGINT NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL,
        counts BYTEA NOT NULL, margin_ppm BIGINT NOT NULL CHECK (margin_ppm >= 0),
        PRIMARY KEY (org, agent, model)
    ) WITH (fillfactor = 70)""",
    """CREATE TABLE decision_clock (
        org BIGINT PRIMARY KEY, last_at BIGINT NOT NULL
    ) WITH (fillfactor = 50)""",
    "CREATE INDEX hold_leases ON hold (org, id) WHERE state = 'open' AND kind = 'lease'",
    """CREATE INDEX incident_due ON incident (org, until)
        WHERE resolution = 'raised_until' AND ended_at IS NULL""",
    "CREATE TABLE budget_stamp (org BIGINT PRIMARY KEY, stamp BYTEA NOT NULL) WITH (fillfactor = 50)",
    "CREATE INDEX posting_by_time ON posting (org, at)",
    """CREATE TABLE alert (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        at BIGINT NOT NULL, type TEXT NOT NULL, budget BYTEA, member TEXT NOT NULL, starts_at BIGINT,
        amount BIGINT NOT NULL, share_ppm BIGINT NOT NULL, agent TEXT NOT NULL, source BYTEA,
        PRIMARY KEY (org, id)
    )""",
    "CREATE INDEX alert_by_budget ON alert (org, budget, id) WHERE budget IS NOT NULL",
    """CREATE TABLE user_account (
        id BYTEA PRIMARY KEY CHECK (length(id) = 16),
        email TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        password_epoch BIGINT NOT NULL DEFAULT 0,
        first_name TEXT NOT NULL, last_name TEXT NOT NULL,
        created_at BIGINT NOT NULL, verified_at BIGINT, disabled_at BIGINT
    )""",
    """CREATE TABLE membership (
        org BIGINT NOT NULL, "user" BYTEA NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'finance', 'member', 'viewer')),
        created_at BIGINT NOT NULL,
        PRIMARY KEY (org, "user")
    )""",
    """CREATE INDEX membership_by_user ON membership ("user", created_at, org)""",
    """CREATE TABLE session (
        id BYTEA PRIMARY KEY CHECK (length(id) = 16),
        "user" BYTEA NOT NULL, password_epoch BIGINT NOT NULL,
        created_at BIGINT NOT NULL, last_used_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL, ended_at BIGINT
    )""",
    """CREATE INDEX session_by_user ON session ("user") WHERE ended_at IS NULL""",
    """CREATE TABLE one_time_code (
        "user" BYTEA NOT NULL, purpose TEXT NOT NULL,
        hash BYTEA NOT NULL, tries BIGINT NOT NULL, created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL,
        PRIMARY KEY ("user", purpose)
    )""",
    """CREATE TABLE throttle (
        kind TEXT NOT NULL, subject BYTEA NOT NULL, starts_at BIGINT NOT NULL, count BIGINT NOT NULL,
        PRIMARY KEY (kind, subject)
    )""",
    """CREATE TABLE personal_token (
        hash BYTEA PRIMARY KEY, id BYTEA NOT NULL UNIQUE,
        "user" BYTEA NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL,
        created_at BIGINT NOT NULL, expires_at BIGINT, revoked_at BIGINT, last_used_at BIGINT
    )""",
    """CREATE INDEX personal_token_by_user ON personal_token ("user", id)""",
    """CREATE TABLE invitation (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        email TEXT NOT NULL, role TEXT NOT NULL, hash BYTEA NOT NULL UNIQUE, inviter TEXT NOT NULL,
        created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, accepted_at BIGINT, revoked_at BIGINT,
        PRIMARY KEY (org, id)
    )""",
    """CREATE TABLE external_identity (
        issuer TEXT NOT NULL, subject TEXT NOT NULL, "user" BYTEA NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (issuer, subject)
    )""",
    """CREATE TABLE signing_key (
        kid TEXT PRIMARY KEY, secret BYTEA NOT NULL, created_at BIGINT NOT NULL, retired_at BIGINT
    )""",
    "CREATE INDEX audit_by_time ON audit (org, at, seq)",
    """CREATE TABLE alert_config (
        org BIGINT NOT NULL, id BYTEA NOT NULL CHECK (length(id) = 16),
        agent TEXT NOT NULL, channel TEXT NOT NULL, share_ppm BIGINT NOT NULL CHECK (share_ppm > 0),
        metric TEXT NOT NULL, target TEXT, secret TEXT,
        is_delivered BIGINT NOT NULL CHECK (is_delivered IN (0, 1)),
        source TEXT NOT NULL, created_at BIGINT NOT NULL,
        PRIMARY KEY (org, id)
    )""",
    "CREATE INDEX alert_config_by_agent ON alert_config (org, agent, id)",
    """CREATE TABLE synced_config (
        org BIGINT NOT NULL, agent TEXT NOT NULL, body TEXT NOT NULL, synced_at BIGINT NOT NULL,
        PRIMARY KEY (org, agent)
    )""",
    "CREATE INDEX alert_by_time ON alert (org, at, id)",
    "CREATE INDEX run_by_agent ON run (org, agent)",
]

_HELPERS = [
    # SQLite's max and min of two, which give NULL when one is: `greatest` would pass over it.
    *(
        f"""CREATE FUNCTION {name}({kind}, {kind}) RETURNS {kind} LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN CASE WHEN $1 {sign} $2 THEN $1 WHEN $2 {sign} $1 THEN $2 END"""
        for name, sign in (("max", ">="), ("min", "<="))
        for kind in ("integer", "bigint", "numeric", "text")
    ),
]

GLOBAL_TABLES: Final = frozenset(
    {
        "organisation",
        "user_account",
        "session",
        "one_time_code",
        "throttle",
        "personal_token",
        "external_identity",
        "signing_key",
        "api_key_hash",
    }
)
"""Tables that no organisation owns, or that are asked which one it is: no row-level security."""

# Each question is put once a statement, not once a row. A transaction that never said whose rows it
# is about sees none; the setting is empty on a connection that had one before.
_CURRENT = "nullif(current_setting('bursar.org', true), '')::bigint"
_OWN = f"org = (SELECT {_CURRENT}) OR (SELECT {_CURRENT} = 0)"


def fence(table: str) -> list[str]:
    """Return the statements that show a table's rows to the transactions of their organisation alone."""
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY own_org ON {table} USING ({_OWN})",
    ]


def statements() -> Iterator[str]:
    """Yield the statements that make the schema in an empty one, in their order."""
    yield from _HELPERS
    tables: list[str] = []
    for statement in _TABLES:
        yield _in_byte_order(statement)
        made = _TABLE_NAME.match(statement)
        if made:
            tables.append(made[1])
    for part in range(KEY_PARTS):
        yield f"""CREATE TABLE event_key_{part} PARTITION OF event_key
            FOR VALUES WITH (MODULUS {KEY_PARTS}, REMAINDER {part})"""
        tables.append(f"event_key_{part}")
    for table, bounds in (("event_early", ("MINVALUE", EARLY_TO)), ("event_late", (LATE_FROM, "MAXVALUE"))):
        yield f"CREATE TABLE {table} PARTITION OF event FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
        tables.append(table)
    for table in tables:
        if table not in GLOBAL_TABLES:
            yield from fence(table)


_TABLE_NAME = re.compile(r"CREATE TABLE (\w+)")


def _in_byte_order(statement: str) -> str:
    """Let a table's text sort and compare by its bytes, whatever the database's own order is."""
    return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement)
