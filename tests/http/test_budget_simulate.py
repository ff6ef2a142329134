"""A proposed budget over the calls of a ledger: who would have been refused, and when."""

from collections.abc import Iterator

import pytest

from bursar.budgets.budget import Budget
from bursar.enforcement.history import PastRange, Replayer
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

PRICE = "0.01175"
TABLES = ("budget", "budget_window", "posting", "hold", "incident", "alert")


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def ingest(desk: Desk, count: int, **fields: object) -> None:
    for number in range(count):
        at = f"2026-03-01T{number // 60:02}:{number % 60:02}:00Z"
        answer = desk.ingest(event(timestamp=at, **fields))
        assert answer.status_code == 202, answer.text


def simulate(desk: Desk, **budget: object) -> dict[str, object]:
    answer = desk.post("/v1/budgets/simulate", {"budget": budget})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_it_says_who_would_have_been_refused_when_and_in_which_window(desk: Desk) -> None:
    ingest(desk, 5, run_id="r-1")
    ingest(desk, 3, agent_name="other")
    found = simulate(desk, limit="0.03", scope={"agent": "research-bot"})
    assert (found["events_read"], found["matched"], found["refused"]) == (8, 5, 3)
    assert found["refused_amount"] == "0.03525"
    assert found["first_refusal_at"] == "2026-03-01T00:02:00Z"
    first = found["refusals"][0]
    assert first.pop("event_id").startswith("evt_")
    assert first == {
        "at": "2026-03-01T00:02:00Z",
        "agent": "research-bot",
        "model": "gpt-4o",
        "run": "r-1",
        "amount": PRICE,
        "reason": "no_room",
        "window_starts_at": "2026-03-01T00:00:00Z",
        "settled": "0.0235",
        "limit": "0.03",
    }
    [window] = found["windows"]
    assert (window["settled"], window["refused"], window["limit"]) == ("0.0235", 3, "0.03")
    assert found["budget"]["scope"] == {"agent": "research-bot"}
    assert found["truncated"] is False


def test_alerts_of_a_soft_budget_are_listed_once_each(desk: Desk) -> None:
    ingest(desk, 3)
    found = simulate(desk, limit="0.02", mode="soft")
    assert found["refused"] == 0
    assert [(alert["type"], alert["threshold"]) for alert in found["alerts"]] == [
        ("budget.threshold", 0.8),
        ("budget.threshold", 1.0),
    ]


def test_a_corrected_call_counts_as_it_stands(desk: Desk) -> None:
    for revision, tokens in enumerate((1500, 1_000_000)):
        sent = event(idempotency_key="one", revision=revision, input_tokens=tokens)
        assert desk.ingest(sent).status_code == 202
    found = simulate(desk, limit="1.00")
    assert (found["matched"], found["refused"], found["refused_amount"]) == (1, 1, "2.508")


def test_a_range_leaves_out_what_lies_beside_it(desk: Desk) -> None:
    ingest(desk, 5)
    asked = {"budget": {"limit": "9"}, "from": "2026-03-01T00:01:00Z", "to": "2026-03-01T00:03:00Z"}
    found = desk.post("/v1/budgets/simulate", asked).json()
    assert (found["matched"], found["from"], found["to"]) == (2, asked["from"], asked["to"])


def test_tags_and_keys_of_calls_are_compared(desk: Desk) -> None:
    ingest(desk, 2, tags={"team": "ads"})
    ingest(desk, 1)
    [(key_id,)] = desk.rows("SELECT id FROM api_key")
    assert simulate(desk, limit="9", scope={"api_key": f"key_{key_id.hex()}"})["matched"] == 3
    assert simulate(desk, limit="9", scope={"tags": {"team": "ads"}})["matched"] == 2
    answer = desk.post(
        "/v1/budgets/simulate", {"budget": {"limit": "9", "scope": {"api_key": "key_" + "0" * 32}}}
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "budget.scope.api_key")


def test_it_writes_nothing(desk: Desk) -> None:
    ingest(desk, 3)
    before = [desk.rows(f"SELECT * FROM {table}") for table in TABLES]
    assert simulate(desk, limit="0.01")["refused"] == 3
    assert [desk.rows(f"SELECT * FROM {table}") for table in TABLES] == before


def test_it_reads_page_by_page_up_to_a_bound(desk: Desk) -> None:
    ingest(desk, 7)
    history = desk.treasury.enforcement._history
    budget = Budget(id=bytes(16), limit=1, created_at=0)
    everything = PastRange(0, 2**62)
    whole = desk.run(Replayer(history, events_max=7).replay(desk.org, budget, everything))
    assert (whole.events_read, whole.simulation.refused, whole.read_until) == (7, 7, None)
    cut = desk.run(Replayer(history, events_max=3).replay(desk.org, budget, everything))
    assert (cut.events_read, cut.simulation.refused, cut.read_until) == (3, 3, 1_772_323_320_000_000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "budget"),
        ({"budget": []}, "budget"),
        ({"budget": {}}, "budget.limit"),
        ({"budget": {"limit": "-1"}}, "budget.limit"),
        ({"budget": {"limit": "1", "period": "yearly"}}, "budget.period"),
        ({"budget": {"limit": "1", "scope": {"agent": ""}}}, "budget.scope.agent"),
        ({"budget": {"limit": "1", "thresholds": [0.5, 11]}}, "budget.thresholds[1]"),
        ({"budget": {"limit": "1", "template": True}}, "budget.template"),
        ({"budget": {"limit": "1"}, "from": "yesterday"}, "from"),
        ({"budget": {"limit": "1"}, "from": 7}, "from"),
        ({"budget": {"limit": "1"}, "from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"budget": {"limit": "1"}, "until": "2026-03-02"}, "until"),
    ],
)
def test_bad_input_names_its_field(desk: Desk, body: object, field: str) -> None:
    answer = desk.post("/v1/budgets/simulate", body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert answer.json()["detail"].startswith(field.partition("[")[0].rsplit(".", 1)[0])


def test_a_key_needs_to_read_everybodys_calls(desk: Desk) -> None:
    body = {"budget": {"limit": "1"}}
    assert desk.post("/v1/budgets/simulate", body, key=desk.new_key(Scope.INGEST)).status_code == 403
    bound = desk.new_key(Scope.READ, agent="research-bot")
    assert desk.post("/v1/budgets/simulate", body, key=bound).status_code == 403
    assert desk.post("/v1/budgets/simulate", body, key=desk.new_key(Scope.READ)).status_code == 200
