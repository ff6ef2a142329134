"""Spend that did not ask: recorded first, counted in its budgets, then told to stop."""

from collections.abc import Iterator

import pytest

from bursar.budgets.amounts import Amounts, Metric
from bursar.budgets.budget import Action, Budget, Mode, Scope, Threshold
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop, stop
from bursar.budgets.hold import Granted, Hold, Request
from bursar.budgets.matching import Call
from bursar.core.ids import new_id, text_from_id
from bursar.core.periods import Period
from bursar.enforcement import changes
from bursar.enforcement.questions import Authorise
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database

CALL_NUSD = 11_750_000
"""What `support.desk.event` costs."""


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def put(desk: Desk, **fields: object) -> Budget:
    plain = {"id": new_id(), "created_at": 1, "limit": 2 * CALL_NUSD, "period": Period.TOTAL}
    budget = Budget(**(plain | fields))  # type: ignore[arg-type]
    desk.run(desk.treasury.enforcement.desk.change(desk.org, lambda change: changes.create(change, budget)))
    return budget


def kill(desk: Desk, key: GateKey) -> None:
    new = Stop(Owner.MANUAL, GateState.KILLED, NOW, "runs wild", "operator")
    change = lambda c: changes.change_gate(c, key, lambda gates: stop(gates, key, new))  # noqa: E731
    desk.run(desk.treasury.enforcement.desk.change(desk.org, change))


def hold(desk: Desk, cost_nusd: int, agent: str = "research-bot", key: bytes | None = None) -> Hold:
    call = Call(agent, provider="openai", model="gpt-4o")
    request = Request(
        hold_id=new_id(), key=key or new_id(), digest=b"", call=call, amounts=Amounts(cost_nusd)
    )
    answer = desk.run(desk.treasury.enforcement.desk.ask(desk.org, Authorise(request)))
    assert isinstance(answer, Granted)
    return answer.hold


def window(desk: Desk) -> tuple[object, ...]:
    return desk.one("SELECT settled, held, unheld, overrun FROM budget_window")


def test_the_batch_that_crosses_the_limit_passes_and_the_next_is_recorded_and_stopped(desk: Desk) -> None:
    budget = put(desk, scope=Scope(agent="research-bot"), name="one agent")
    assert desk.ingest(*[event()] * 3).status_code == 202
    answer = desk.ingest(event())
    assert (answer.status_code, answer.json()["reason"]) == (429, "tier_agent_limit")
    body = answer.json()
    assert (body["cause"], body["rejected_agents"], body["recorded"]) == ("budget", ["research-bot"], 1)
    assert (body["budget_id"], body["resume_at"]) == (text_from_id("bud", budget.id), None)
    assert "retry-after" not in answer.headers
    assert window(desk) == (4 * CALL_NUSD, 0, 4 * CALL_NUSD, 0)
    assert desk.recorded() == 4


def test_a_repeat_of_a_stopped_batch_counts_once_and_is_stopped_again(desk: Desk) -> None:
    put(desk, scope=Scope(agent="research-bot"), limit=1)
    sent = [event(idempotency_key=f"call-{n}") for n in range(2)]
    desk.ingest(event())
    for _ in range(3):
        assert desk.ingest(*sent).status_code == 429
    assert window(desk)[0] == 3 * CALL_NUSD


def test_the_organisations_own_budget_stops_everybody(desk: Desk) -> None:
    put(desk, period=Period.DAILY, limit=CALL_NUSD)
    today = {"timestamp": "2026-03-02T00:00:00Z"}
    desk.ingest(event(**today))
    answer = desk.ingest(event(agent_name="another", **today))
    assert (answer.status_code, answer.json()["reason"]) == (429, "org_budget_exceeded")
    assert answer.json()["resume_at"] == "2026-03-03T00:00:00Z"


def test_a_batch_of_stopped_and_live_agents_passes_and_names_the_stopped(desk: Desk) -> None:
    put(desk, scope=Scope(agent="research-bot"), limit=1)
    desk.ingest(event())
    answer = desk.ingest(event(), event(agent_name="another"))
    assert (answer.status_code, answer.json()["rejected_agents"]) == (202, ["research-bot"])
    assert answer.json()["accepted"] == 2


@pytest.mark.parametrize(
    "key",
    [GateKey(GateKind.AGENT, "research-bot"), GateKey(GateKind.ORGANISATION, "")],
    ids=["agent", "organisation"],
)
def test_a_kill_is_told_at_the_next_batch(desk: Desk, key: GateKey) -> None:
    kill(desk, key)
    answer = desk.ingest(event())
    body = answer.json()
    assert (answer.status_code, body["reason"], body["cause"]) == (429, "tier_agent_limit", "killed")
    assert "runs wild" in body["detail"]
    assert desk.recorded() == 1


def test_a_kill_of_one_agent_is_nothing_to_its_neighbour(desk: Desk) -> None:
    kill(desk, GateKey(GateKind.AGENT, "research-bot"))
    assert desk.ingest(event(agent_name="another")).status_code == 202


@pytest.mark.parametrize(
    "scope", [Scope(model="gpt-*"), Scope(user="u1"), Scope(agent="research-bot", model="gpt-4o")]
)
def test_other_scopes_never_stop_a_batch(desk: Desk, scope: Scope) -> None:
    put(desk, scope=scope, limit=1)
    for _ in range(2):
        assert desk.ingest(event(user="u1")).status_code == 202
    assert window(desk)[0] == 2 * CALL_NUSD


def test_a_soft_budget_only_tells(desk: Desk) -> None:
    put(desk, mode=Mode.SOFT, limit=1)
    for _ in range(2):
        answer = desk.ingest(event())
    assert (answer.status_code, answer.json()["budget_state"]) == (202, "exceeded")


def test_a_soft_budget_that_pauses_its_agent_stops_it(desk: Desk) -> None:
    pause = (Threshold(1_000_000, Action.PAUSE),)
    put(desk, scope=Scope(agent="research-bot"), mode=Mode.SOFT, limit=1, thresholds=pause)
    desk.ingest(event())
    assert desk.ingest(event()).json()["reason"] == "tier_agent_limit"


def test_headers_tell_how_much_is_left_of_the_tightest_budget(desk: Desk) -> None:
    put(desk, limit=1_000 * CALL_NUSD)
    today = {"timestamp": "2026-03-02T00:00:00Z"}
    tight = put(desk, scope=Scope(agent="research-bot"), period=Period.DAILY, limit=4 * CALL_NUSD)
    headers = desk.ingest(event(**today)).headers
    name = text_from_id("bud", tight.id)
    assert headers["bursar-budget-remaining"] == "0.03525"
    assert headers["bursar-budget-limit"] == "0.047"
    assert headers["bursar-budget-reset"] == "2026-03-03T00:00:00Z"
    assert headers["bursar-budget-state"] == "ok"
    assert headers["ratelimit"] == f'"{name}";r=35250000;t=86400'
    assert headers["ratelimit-policy"] == f'"{name}";q=47000000;qu="nano-usd";w=86400'


def test_without_budgets_answers_are_as_before(desk: Desk) -> None:
    answer = desk.ingest(event())
    assert "ratelimit" not in answer.headers
    assert "budget_state" not in answer.json()


def test_other_metrics_count_what_was_used(desk: Desk) -> None:
    limits = {Metric.TOKENS_TOTAL: 2300, Metric.TOKENS_OUTPUT: 800, Metric.CALLS: 1, Metric.DURATION: 5}
    for metric in limits:
        put(desk, metric=metric, limit=10_000, name=metric.value)
    desk.ingest(event(duration_ms=5))
    rows = desk.rows("SELECT name, settled FROM budget_window JOIN budget ON id = budget")
    assert dict(rows) == {metric.value: amount for metric, amount in limits.items()}


def test_an_unpriced_call_is_listed_and_not_counted_as_nothing(desk: Desk) -> None:
    put(desk)
    desk.ingest(event(model="nobody-knows-it"))
    assert desk.one("SELECT settled, unpriced FROM budget_window") == (0, 1)


def test_a_revision_replaces_what_the_event_counted_as(desk: Desk) -> None:
    put(desk)
    desk.ingest(event(idempotency_key="k", cost=0.01))
    desk.ingest(event(idempotency_key="k", cost=0.004, revision=1))
    assert window(desk)[0] == 4_000_000
    assert desk.violations() == ()


def test_an_event_that_names_its_hold_settles_it(desk: Desk) -> None:
    put(desk)
    held = hold(desk, 20_000_000)
    body = {"hold_id": text_from_id("hold", held.id), "input_tokens": 1500, "output_tokens": 800}
    answer = desk.post("/v1/events", body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["settled"][0] | {"hold_id": ""} == {
        "index": 0, "hold_id": "", "outcome": "settled", "state": "settled",
    }  # fmt: skip
    assert (answer.json()["cost_usd"], window(desk)) == ("0.01175", (CALL_NUSD, 0, 0, 0))
    (entry,) = desk.get("/v1/events").json()["data"]
    assert (entry["agent"], entry["model"], entry["hold"]) == ("research-bot", "gpt-4o", body["hold_id"])


def test_a_second_report_of_a_held_call_is_not_counted_twice(desk: Desk) -> None:
    put(desk)
    held = hold(desk, 20_000_000)
    hold_id = text_from_id("hold", held.id)
    first = {"hold_id": hold_id, "cost_usd": "0.01"}
    desk.post("/v1/events", first)
    again = desk.post("/v1/events", first).json()
    assert (again["duplicates"], again["settled"][0]["outcome"]) == (1, "repeated")
    other = desk.post("/v1/events", first | {"idempotency_key": "mine"}).json()
    assert (other["recorded"], other["rejected"][0]["field"]) == (0, "hold_id")
    assert (window(desk)[0], desk.recorded()) == (10_000_000, 1)
    assert desk.violations() == ()


def test_two_events_of_one_batch_cannot_both_settle_a_hold(desk: Desk) -> None:
    put(desk)
    hold_id = text_from_id("hold", hold(desk, 20_000_000).id)
    sent = [{"hold_id": hold_id, "cost_usd": "0.01", "idempotency_key": f"k{n}"} for n in range(2)]
    answer = desk.post("/v1/events", sent).json()
    assert (answer["recorded"], len(answer["rejected"]), window(desk)[0]) == (1, 1, 10_000_000)


def test_an_unknown_hold_is_refused_unless_the_event_has_names_of_its_own(desk: Desk) -> None:
    put(desk)
    unknown = text_from_id("hold", new_id())
    answer = desk.post("/v1/events", {"hold_id": unknown, "cost_usd": "0.01"}).json()
    assert (answer["recorded"], answer["rejected"][0]["field"], desk.recorded()) == (0, "hold_id", 0)
    named = {"hold_id": unknown, "cost_usd": "0.01", "agent": "a", "model": "m"}
    assert desk.post("/v1/events", named).json()["recorded"] == 1
    assert window(desk) == (10_000_000, 0, 10_000_000, 0)


def test_a_hold_of_another_agent_is_not_settled(desk: Desk) -> None:
    put(desk)
    hold_id = text_from_id("hold", hold(desk, 20_000_000).id)
    desk.post("/v1/events", {"hold_id": hold_id, "cost_usd": "0.01", "agent": "other", "model": "m"})
    assert window(desk) == (10_000_000, 20_000_000, 10_000_000, 0)


def test_spend_recorded_before_its_hold_was_named_releases_the_hold(desk: Desk) -> None:
    put(desk)
    held = hold(desk, 20_000_000)
    sent = {"agent": "research-bot", "provider": "openai", "model": "gpt-4o", "cost_usd": "0.01",
            "idempotency_key": "k", "occurred_at": "2026-03-02T00:00:00Z"}  # fmt: skip
    desk.post("/v1/events", sent)
    desk.post("/v1/events", sent | {"hold_id": text_from_id("hold", held.id)})
    assert window(desk) == (10_000_000, 0, 10_000_000, 0)
    assert desk.violations() == ()


def test_a_held_event_is_never_told_to_stop(desk: Desk) -> None:
    put(desk, limit=10_000_000)
    held = hold(desk, 10_000_000)
    desk.ingest(event(cost=0.02))
    answer = desk.post("/v1/events", {"hold_id": text_from_id("hold", held.id), "cost_usd": "0.01"})
    assert (answer.status_code, answer.json().get("stopped_agents", [])) == (201, [])


def test_a_holds_agent_is_known_before_it_has_spent(desk: Desk) -> None:
    put(desk)
    hold(desk, 1, agent="newcomer")
    assert ("newcomer",) in desk.rows("SELECT name FROM agent")


def test_a_sum_beyond_a_window_sets_only_that_event_aside(desk: Desk) -> None:
    put(desk, metric=Metric.TOKENS_TOTAL)
    huge = event(input_tokens=10**12, output_tokens=10**12, cost=1)
    assert desk.ingest(huge, event()).status_code == 202
    assert desk.violations() == ()


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("openrouter", "openai/GPT-4o"), ("OpenAI", "models/gpt-4o")],
)
def test_a_model_does_not_slip_through_by_another_spelling(desk: Desk, provider: str, model: str) -> None:
    put(desk, scope=Scope(model="gpt-4o"))
    desk.ingest(event(provider=provider, model=model, cost=0.01))
    assert window(desk)[0] == 10_000_000
