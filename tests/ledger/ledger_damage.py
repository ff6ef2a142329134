"""Every kind of damage to a ledger that the proof must find, and the check that names it."""

A_REVISED = "(SELECT key FROM entry WHERE org = 1 AND reason = 'revision' ORDER BY seq LIMIT 1)"
AN_EVENT = "(SELECT key FROM event WHERE org = 1 AND flags >> 14 & 3 = 1 AND card > 0 ORDER BY key LIMIT 1)"
A_LISTED = "(SELECT key FROM unpriced_event WHERE org = 1 ORDER BY key LIMIT 1)"
LAST_BATCH = "(SELECT max(seq) FROM batch WHERE org = 1)"

DAMAGE = {
    "a hold is voided behind its settlement's back": (
        "UPDATE hold SET state = 'voided' WHERE org = 1", "holds"),
    "a posting is of nobody": (
        "UPDATE posting SET source = randomblob(16) WHERE org = 1", "postings"),
    "a window counts what nobody posted": (
        "UPDATE budget_window SET settled = settled + 1 WHERE org = 1", "windows"),
    "a roll-up of agents is one nano-dollar off": (
        "UPDATE rollup_agent SET cost_nusd = cost_nusd + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of projects lost a request": (
        "UPDATE rollup_project SET requests = requests - 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of features gained tokens": (
        "UPDATE rollup_feature SET cache_read_tokens = cache_read_tokens + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up of users lost an unpriced request": (
        "UPDATE rollup_user SET unpriced_requests = unpriced_requests + 1 WHERE rowid_of = 1", "rollups"),
    "a histogram was emptied": ("UPDATE rollup_agent SET durations = x'80' WHERE rowid_of = 1", "rollups"),
    "an hour's first time is wrong": (
        "UPDATE rollup_project SET first_at = first_at + 1 WHERE rowid_of = 1", "rollups"),
    "a roll-up row is gone": ("DELETE FROM rollup_feature WHERE rowid_of = 1", "rollups"),
    "a roll-up row has no entries": (
        """INSERT INTO rollup_user SELECT org, hour + 3600000000 * 100000, user, requests, errors,
           unpriced_requests, unpriced_tokens, cost_nusd, input_tokens, output_tokens, reasoning_tokens,
           cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, media_tokens, web_searches,
           duration_ms FROM rollup_user WHERE rowid_of = 1""", "rollups"),
    "a cost moved between two roll-up rows": (
        """UPDATE rollup_feature SET cost_nusd = cost_nusd + CASE hour WHEN (SELECT min(hour) FROM
           rollup_feature WHERE org = 1) THEN 5 ELSE -5 END WHERE org = 1 AND hour IN (SELECT hour FROM
           rollup_feature WHERE org = 1 ORDER BY hour LIMIT 2)""", "rollups"),
    "an agent's total is off": ("UPDATE agent_total SET output_tokens = 0 WHERE rowid_of = 1", "totals"),
    "an agent's total is gone": ("DELETE FROM agent_total WHERE rowid_of = 1", "totals"),
    "a run's total is off": ("UPDATE run SET errors = errors + 1 WHERE rowid_of = 1", "runs"),
    "a run is gone": ("DELETE FROM run WHERE rowid_of = 1", "runs"),
    "a run's name is another's": ("UPDATE run SET external_id = 'x' WHERE external_id = 'run-1'", "runs"),
    "an event is gone": (f"DELETE FROM event WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "an event and its key are gone": (
        f"""CREATE TEMP TABLE lost AS SELECT {AN_EVENT} AS key; DELETE FROM event WHERE org = 1 AND key =
            (SELECT key FROM lost); DELETE FROM event_key WHERE org = 1 AND key = (SELECT key FROM lost)""",
        "batches"),
    "an event's key is gone": (f"DELETE FROM event_key WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "a key has no event": ("INSERT INTO event_key VALUES (1, zeroblob(16), 5, 0)", "keys"),
    "a key has another time": (
        f"UPDATE event_key SET occurred_at = occurred_at + 1 WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "a prompt has no event": ("UPDATE prompt SET key = zeroblob(16)", "keys"),
    "an event's tokens changed": (
        f"UPDATE event SET input_tokens = input_tokens + 1 WHERE org = 1 AND key = {AN_EVENT}", "rollups"),
    "an event changed its agent": (
        f"UPDATE event SET agent = agent % 3 + 1 WHERE org = 1 AND key = {AN_EVENT}", "rollups"),
    "an event changed its user": (
        f"UPDATE event SET user = 999 WHERE org = 1 AND key = {AN_EVENT}", "names"),
    "an event has no model": (f"UPDATE event SET model = 0 WHERE org = 1 AND key = {AN_EVENT}", "names"),
    "an event moved to another hour": (
        (f"UPDATE event SET occurred_at = occurred_at + 7200000000 "
        f"WHERE org = 1 AND key = {AN_EVENT}"), "keys"),
    "an event moved to another organisation": (
        f"UPDATE event SET org = 2 WHERE org = 1 AND key = {AN_EVENT}", "keys"),
    "an event moved to another batch": (
        f"UPDATE event SET batch = {LAST_BATCH} WHERE org = 1 AND key = {AN_EVENT}", "batches"),
    "a revision was undone in its key": (
        f"UPDATE event_key SET revision = 0 WHERE org = 1 AND key = {A_REVISED}", "revisions"),
    "a revision was raised in its key": (
        f"UPDATE event_key SET revision = 99 WHERE org = 1 AND key = {A_REVISED}", "revisions"),
    "a reversal is gone": ("DELETE FROM entry WHERE org = 1 AND seq = 3", "corrections"),
    "a correction is gone": ("DELETE FROM entry WHERE org = 1 AND seq IN (3, 4)", "corrections"),
    "the last correction is gone": (
        ("DELETE FROM entry WHERE org = 1 AND seq > (SELECT max(seq) - 2 FROM entry "
        "WHERE org = 1)"), "batches"),
    "a reversal takes back less than stood": (
        "UPDATE entry SET output_tokens = output_tokens - 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal lost its run": (
        "UPDATE entry SET session = zeroblob(16) WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal became a post": ("UPDATE entry SET sign = 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a reversal names another entry": (
        "UPDATE entry SET corrects = 1 WHERE org = 1 AND seq = 3", "corrections"),
    "a correction says another reason": (
        "UPDATE entry SET revision = 0 WHERE org = 1 AND seq IN (3, 4)", "revisions"),
    "a correction was posted twice": (
        """CREATE TEMP TABLE twice AS SELECT * FROM entry WHERE org = 1 AND seq IN (3, 4);
           UPDATE twice SET seq = seq + (SELECT max(seq) FROM entry WHERE org = 1) - 2;
           INSERT INTO entry SELECT org, seq, sign, revision, reason, corrects, occurred_at, key, batch,
           agent, model, project, feature, user, api_key, run, session, hold, input_tokens, output_tokens,
           reasoning_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, media,
           duration_ms, flags, reported_nusd, card, computed_nusd, attributes FROM twice""", "corrections"),
    "a batch is gone": ("DELETE FROM batch WHERE org = 1 AND seq = 2", "batches"),
    "the last batch is gone": (f"DELETE FROM batch WHERE org = 1 AND seq = {LAST_BATCH}", "batches"),
    "a batch counts other events": (
        "UPDATE batch SET events = events + 1 WHERE org = 1 AND seq = 1", "batches"),
    "a batch counts other entries": ("UPDATE batch SET entries = 0 WHERE org = 1 AND entries > 0", "batches"),
    "a batch names other hours": ("UPDATE batch SET hours = '[0]' WHERE org = 1 AND seq = 1", "batches"),
    "an unpriced event is not listed": (
        f"DELETE FROM unpriced_event WHERE org = 1 AND key = {A_LISTED}", "unpriced"),
    "a priced event is listed as unpriced": (
        f"""INSERT INTO unpriced_event SELECT org, model, occurred_at, key FROM event
            WHERE org = 1 AND key = {AN_EVENT}""", "unpriced"),
    "an unpriced event is listed under another model": (
        f"UPDATE unpriced_event SET model = 1 WHERE org = 1 AND key = {A_LISTED}", "unpriced"),
    "a cost counts that is not kept": (
        (f"UPDATE event SET flags = flags & ~49152 | 32768, reported_nusd = NULL "
        f"WHERE org = 1 AND key = {AN_EVENT}"),
        "costs"),
    "flags say what they cannot": (
        f"UPDATE event SET flags = flags | 49152 WHERE org = 1 AND key = {AN_EVENT}", "costs"),
    "an unpriced event has a computed cost": (
        f"UPDATE event SET computed_nusd = 0 WHERE org = 1 AND key = {A_LISTED}", "prices"),
    "a computed cost is one nano-dollar low": (
        f"UPDATE event SET computed_nusd = computed_nusd - 1 WHERE org = 1 AND key = {AN_EVENT}", "prices"),
    "a correction's computed cost is off": (
        """UPDATE entry SET computed_nusd = computed_nusd + 1 WHERE org = 1 AND sign = 1 AND seq =
           (SELECT max(seq) FROM entry WHERE org = 1 AND sign = 1 AND computed_nusd > 0)""", "prices"),
    "an event was priced by another tier": (
        f"UPDATE event SET flags = flags | 16 WHERE org = 1 AND key = {AN_EVENT}", "prices"),
    "a rate changed": (
        "UPDATE rate_card SET lines = replace(lines, '2500000000', '2500000001') WHERE org = 1", "cards"),
    "a rate changed, digest and all": (
        ("UPDATE rate_card SET lines = '[[\"input_tokens\",1,0]]', digest = zeroblob(16) "
        "WHERE org = 1 AND card = 1"),
        "prices"),
    "a rate card is nonsense": ("UPDATE rate_card SET lines = '{' WHERE org = 1 AND card = 1", "cards"),
    "a rate card is gone": ("DELETE FROM rate_card WHERE org = 1 AND card = 1", "cards"),
    "an agent's name is gone": ("DELETE FROM agent WHERE org = 1 AND name = 'coder'", "names"),
    "a model's name is gone": ("DELETE FROM model WHERE org = 1 AND name = 'gpt-4o'", "names"),
    "an API key is gone": ("DELETE FROM api_key WHERE org = 1 AND api_key = 1", "api_keys"),
    "a key's hash is gone": ("DELETE FROM api_key_hash WHERE api_key = 1", "api_keys"),
    "a key's hash is another": ("UPDATE api_key SET hash = randomblob(32) WHERE api_key = 1", "api_keys"),
    "a hash opens another key": ("UPDATE api_key_hash SET api_key = 2 WHERE api_key = 1", "api_keys"),
    "a revoked key was made active": ("UPDATE api_key SET is_active = 1", "api_keys"),
    "an organisation is gone": ("DELETE FROM organisation WHERE org = 2", "organisations"),
    "rows hide under an unknown organisation": ("UPDATE quarantine SET org = 77", "organisations"),
    "a quarantined event was dropped": ("DELETE FROM quarantine WHERE seq = 1", "logs"),
    "the audit log has a gap": ("DELETE FROM audit WHERE org = 1 AND seq = 2", "logs"),
    "sums leave 64 bits": (
        ("UPDATE event SET reported_nusd = 9223372036854775807 "
        "WHERE org = 1 AND reported_nusd > 0"), "rollups"),
    "a count is negative": (
        f"UPDATE event SET duration_ms = -1 WHERE org = 1 AND key = {AN_EVENT}", "rollups"),
    "an event's rare units are no mapping": (
        f"UPDATE event SET media = '[]' WHERE org = 1 AND key = {AN_EVENT}", "prices"),
}  # fmt: skip

OF_ENGINE = {
    "sqlite": {
        "a name is no UTF-8": (
            "UPDATE rate_card SET model = CAST(x'ff' AS TEXT) WHERE org = 1 AND card = 1", "file"),
        "an index lost a row": (
            """PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(org, key, seq)',
               '(org, key, batch)') WHERE name = 'entry_by_key'""", "file"),
    },
    "postgres": {
        "an index is not kept up": (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'entry_by_key'::regclass", "file"),
        "a part of the keys is not there": (
            """ALTER TABLE event_key DETACH PARTITION event_key_7;
               DELETE FROM event_key_7""", "file"),
        "a month of events is not there": (
            """ALTER TABLE event DETACH PARTITION event_2026_03;
               UPDATE event_2026_03 SET flags = flags""", "keys"),
        "a key can be there twice": (
            """ALTER TABLE run DROP CONSTRAINT run_pkey; UPDATE run SET errors = errors""", "file"),
        "two rows have one key": (
            """ALTER TABLE agent_total DROP CONSTRAINT agent_total_pkey;
               INSERT INTO agent_total SELECT * FROM agent_total""", "totals"),
    },
}  # fmt: skip
"""What only one engine's structure lets happen."""


def first_row(sql: str) -> str:
    """Spell `rowid_of = 1`: the table's first row of the first organisation (tables have no rowid)."""
    if "rowid_of" not in sql:
        return sql
    table = next(name for name in ("rollup_agent", "rollup_project", "rollup_feature", "rollup_user",
                                   "agent_total", "run") if name in sql)  # fmt: skip
    keys = {"rollup_agent": "org, hour, agent, model, billing", "rollup_project": "org, hour, project, model",
            "rollup_feature": "org, hour, feature", "rollup_user": "org, hour, user",
            "agent_total": "org, agent", "run": "org, run"}[table]  # fmt: skip
    return sql.replace(
        "rowid_of = 1", f"({keys}) IN (SELECT {keys} FROM {table} WHERE org = 1 ORDER BY {keys} LIMIT 1)"
    )
