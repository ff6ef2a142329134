"""What each call changes is changed within its page: no index of a counter grows with the calls."""

from support.desk import event, open_desk
from support.engines import PostgresDatabase

CALLS = 40
COUNTERS = {
    "budget_window", "decision_clock", "agent_total", "rollup_agent", "rollup_project", "rollup_feature",
    "rollup_user",
}  # fmt: skip
_CHANGED = """SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
    WHERE schemaname = 'bursar' AND n_tup_upd > 10"""


def test_counters_are_changed_without_touching_an_index(postgres: PostgresDatabase) -> None:
    with open_desk(postgres) as desk:
        assert desk.post("/v1/budgets", {"name": "d", "scope": {"agent": "bot"}, "limit": "1000"}).is_success
        for _ in range(CALLS):
            hold = desk.post("/v1/holds", {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}).json()
            assert desk.post(f"/v1/holds/{hold['id']}/settle", {"cost_usd": "0.05"}).is_success
            assert desk.post("/v1/ingest", {"events": [event(agent_name="bot")]}).is_success
    changed = {name: (rows, in_place) for name, rows, in_place in postgres.rows(_CHANGED)}
    assert changed.keys() >= COUNTERS
    for name in COUNTERS:
        rows, in_place = changed[name]
        assert in_place >= 0.95 * rows, name


def test_a_month_that_was_taken_away_is_told_by_the_proof(postgres: PostgresDatabase) -> None:
    with open_desk(postgres) as desk:
        old, new = (event(timestamp=f"2023-0{month}-05T10:00:00Z") for month in (5, 6))
        assert desk.post("/v1/ingest", {"events": [old, new]}).is_success
        assert postgres.verify().violations == ()
    postgres.rows("ALTER TABLE event DETACH PARTITION event_2023_05 CONCURRENTLY")
    found = {violation.check for violation in postgres.verify().violations}
    assert found == {"rollups", "keys", "batches"}
    with open_desk(postgres, "second") as desk:
        assert desk.get("/v1/costs").is_success
        assert desk.post("/v1/ingest", {"events": [old]}).is_success
