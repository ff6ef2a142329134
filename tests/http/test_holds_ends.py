"""How holds end, seen by a caller: settled, voided, lapsed, prolonged; and what comes too late."""

import asyncio
from collections.abc import Iterator

import pytest
from holding import MISSING, ask, budget, figures, held, settle, void, window

from bursar.identity.keys import Scope
from support.desk import Desk, open_desk
from support.engines import Database


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def test_a_settlement_below_the_hold_gives_the_difference_back_at_once(desk: Desk) -> None:
    made = budget(desk)
    answer = settle(desk, held(desk, "0.60"), "0.25")
    body = answer.json()
    assert (answer.status_code, body["outcome"], body["state"]) == (200, "settled", "settled")
    assert (body["settled_usd"], body["windows"][0]["overrun"]) == ("0.25", "0.00")
    assert figures(desk, made) == ("0.25", "0.00")
    assert answer.headers["bursar-budget-remaining"] == "0.75"
    assert desk.get(f"/v1/events/{body['event_id']}").json()["hold"] == body["id"]


def test_a_settlement_above_the_hold_is_recorded_in_full_and_its_excess_shown(desk: Desk) -> None:
    made = budget(desk)
    body = settle(desk, held(desk, "0.60"), "1.25").json()
    assert (body["outcome"], body["windows"][0]["overrun"]) == ("settled", "0.65")
    now = window(desk, made)
    assert (now["settled"], now["held"], now["overrun"]) == ("1.25", "0.00", "0.65")
    assert ask(desk, "0.01").status_code == 402


def test_a_settlement_takes_the_holds_names_and_is_priced_by_its_tokens(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60", project="p", user="u", run="r")
    body = settle(desk, hold, usage={"input_tokens": 1500, "output_tokens": 800}, duration_ms=40).json()
    assert body["settled_usd"] == "0.01175"
    assert figures(desk, made) == ("0.01175", "0.00")
    recorded = desk.get(f"/v1/events/{body['event_id']}").json()
    names = ("agent", "provider", "model", "project", "user", "run")
    assert [recorded[name] for name in names] == ["bot", "openai", "gpt-4o", "p", "u", "r"]
    assert (recorded["source"], recorded["duration_ms"]) == ("hold", 40)


def test_a_settlement_may_name_another_model_but_no_other_agent_or_project(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60", project="p")
    for field in ("agent", "project"):
        wrong = settle(desk, hold, "0.10", **{field: "else"})
        assert (wrong.status_code, wrong.json()["field"]) == (422, field)
    assert figures(desk, made) == ("0.00", "0.60")
    body = settle(desk, hold, input_tokens=1_000_000, model="gpt-4o-mini", agent="bot", project="p").json()
    assert (body["outcome"], body["settled_usd"]) == ("settled", "0.15")


@pytest.mark.parametrize("fields", [{}, {"duration_ms": 5}, {"amount_usd": "0.10"}, {"usage": {}}])
def test_a_settlement_that_says_no_cost_is_refused_and_the_hold_stays(
    desk: Desk, fields: dict[str, object]
) -> None:
    made = budget(desk)
    hold = held(desk, "0.60")
    answer = settle(desk, hold, **fields)
    assert (answer.status_code, "cost_usd" in answer.text) == (422, True)
    assert figures(desk, made) == ("0.00", "0.60")
    assert settle(desk, hold, status="error").json()["settled_usd"] == "0.00"


def test_a_settlement_without_a_known_cost_is_recorded_as_unpriced(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60", model="nobody-knows")
    body = settle(desk, hold, usage={"input_tokens": 5}).json()
    assert (body["outcome"], body["settled_usd"]) == ("settled", None)
    assert (window(desk, made)["unpriced"], *figures(desk, made)) == (1, "0.00", "0.00")
    refused = ask(desk, "0.10")
    assert (refused.status_code, refused.json()["reason"]) == (402, "unpriced_spend")


def test_a_settlement_sent_twice_gives_the_first_answer(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60")
    first, again = settle(desk, hold, "0.25").json(), settle(desk, hold, "0.25").json()
    assert (again["outcome"], again["event_id"]) == ("repeated", first["event_id"])
    assert (figures(desk, made), desk.recorded()) == (("0.25", "0.00"), 1)


def test_a_second_settlement_of_another_amount_is_a_conflict_that_shows_the_first(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60")
    settle(desk, hold, "0.25")
    same_key = settle(desk, hold, "0.26")
    own_key = settle(desk, hold, "0.26", idempotency_key="another")
    assert (same_key.status_code, same_key.json()["code"]) == (409, "idempotency_conflict")
    assert (own_key.status_code, own_key.json()["code"]) == (409, "hold_resolved")
    for answer in (same_key, own_key):
        assert (answer.json()["hold"]["state"], answer.json()["hold"]["settled_usd"]) == ("settled", "0.25")
    assert (figures(desk, made), desk.recorded()) == (("0.25", "0.00"), 1)


def test_a_settlement_with_its_own_key_is_repeated_under_it(desk: Desk) -> None:
    hold = held(desk)
    first = settle(desk, hold, "0.05", idempotency_key="mine").json()
    again = desk.post(
        f"/v1/holds/{hold['id']}/settle", {"cost_usd": "0.05"}, headers={"Idempotency-Key": "mine"}
    )
    assert (first["outcome"], again.json()["outcome"]) == ("settled", "repeated")
    assert desk.get("/v1/events/mine").json()["hold"] == hold["id"]


def test_a_key_that_stands_for_another_call_settles_nothing_and_leaves_the_hold_open(desk: Desk) -> None:
    made = budget(desk)
    desk.post("/v1/events", {"agent": "bot", "model": "gpt-4o", "cost_usd": "0.30", "idempotency_key": "k"})
    hold = held(desk, "0.60")
    answer = settle(desk, hold, "0.25", idempotency_key="k")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
    assert answer.json()["hold"]["state"] == "open"
    assert figures(desk, made) == ("0.30", "0.60")
    assert settle(desk, hold, "0.25").json()["outcome"] == "settled"


def test_twenty_copies_of_a_settlement_at_once_count_once(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60")

    async def together() -> list[str]:
        headers = {"Authorization": f"Bearer {desk.key}"}
        path = f"/v1/holds/{hold['id']}/settle"
        asked = [desk.client.post(path, json={"cost_usd": "0.5"}, headers=headers) for _ in range(20)]
        return [one.json()["outcome"] for one in await asyncio.gather(*asked)]

    assert sorted(desk.run(together())) == ["repeated"] * 19 + ["settled"]
    assert (figures(desk, made), desk.recorded()) == (("0.50", "0.00"), 1)


def test_a_void_gives_the_room_back_and_may_be_repeated(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk, "0.60")
    for _ in range(2):
        answer = void(desk, hold)
        assert (answer.status_code, answer.json()["state"]) == (200, "voided")
    assert figures(desk, made) == ("0.00", "0.00")


def test_a_void_needs_no_body_and_takes_a_reason(desk: Desk) -> None:
    hold, other = held(desk), held(desk)
    assert desk.send("POST", f"/v1/holds/{hold['id']}/void").status_code == 200
    assert desk.post(f"/v1/holds/{other['id']}/void", {"reason": "never sent"}).status_code == 200


def test_a_void_after_a_settlement_is_a_conflict(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk)
    settle(desk, hold, "0.05")
    answer = void(desk, hold)
    assert (answer.status_code, answer.json()["code"]) == (409, "hold_resolved")
    assert answer.json()["hold"]["state"] == "settled"
    assert figures(desk, made) == ("0.05", "0.00")


def test_a_settlement_after_a_void_is_real_money_and_counts_as_unheld(desk: Desk) -> None:
    made = budget(desk)
    hold = held(desk)
    void(desk, hold)
    body = settle(desk, hold, "0.05").json()
    assert (body["outcome"], body["state"]) == ("unheld", "voided")
    now = window(desk, made)
    assert (now["settled"], now["unheld"]) == ("0.05", "0.05")
    alerts = desk.rows("SELECT type FROM alert")
    assert ("hold.voided_but_spent",) in alerts


def test_a_hold_nobody_settles_lapses_and_its_room_returns(desk: Desk) -> None:
    made = budget(desk, period="total")
    hold = held(desk, "0.60", deadline_s=60, grace_s=0)
    desk.advance(59)
    assert figures(desk, made) == ("0.00", "0.60")
    desk.advance(2)
    assert figures(desk, made) == ("0.00", "0.00")
    shown = desk.get(f"/v1/holds/{hold['id']}").json()
    assert (shown["state"], shown["ended_at"]) == ("expired", "2026-03-02T00:01:01Z")


def test_a_late_settlement_is_recorded_and_flagged(desk: Desk) -> None:
    made = budget(desk, period="total")
    hold = held(desk, "0.60", deadline_s=60, grace_s=0)
    desk.advance(61)
    body = settle(desk, hold, "0.50").json()
    assert (body["outcome"], body["state"], body["settled_usd"]) == ("late", "settled_late", "0.50")
    assert figures(desk, made) == ("0.50", "0.00")
    assert settle(desk, hold, "0.50").json()["outcome"] == "repeated"


def test_what_lies_in_suspense_stays_counted_until_an_admin_voids_it(desk: Desk) -> None:
    made = budget(desk, on_expiry="suspense", period="total")
    hold = held(desk, "0.60", deadline_s=60, grace_s=0)
    desk.advance(61)
    assert desk.get(f"/v1/holds/{hold['id']}").json()["state"] == "suspense"
    assert ask(desk, "0.50").status_code == 402
    lesser = desk.new_key(Scope.INGEST)
    refused = void(desk, hold, lesser)
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    assert figures(desk, made) == ("0.00", "0.60")
    assert void(desk, hold).json()["state"] == "voided"
    assert figures(desk, made) == ("0.00", "0.00")


def test_an_extension_moves_the_end_but_never_earlier_nor_past_a_day(desk: Desk) -> None:
    hold = held(desk, deadline_s=60)
    path = f"/v1/holds/{hold['id']}/extend"
    assert desk.post(path, {"deadline_s": 3600}).json()["deadline_at"] == "2026-03-02T01:00:00Z"
    assert desk.post(path, {"deadline_s": 1}).json()["deadline_at"] == "2026-03-02T01:00:00Z"
    desk.advance(1800)
    last = desk.post(path, {"deadline_s": 86_400}).json()
    assert last["deadline_at"] == "2026-03-03T00:00:00Z"
    void(desk, hold)
    assert desk.post(path, {"deadline_s": 60}).json()["code"] == "hold_resolved"


@pytest.mark.parametrize("verb", ["settle", "void", "extend"])
def test_an_unknown_hold_and_one_of_another_organisation_are_alike(desk: Desk, verb: str) -> None:
    body = {"deadline_s": 5} if verb == "extend" else {"cost_usd": "1"} if verb == "settle" else {}
    hold = held(desk)
    other = desk.new_key(org=desk.organisation("other"))
    before = desk.rows("SELECT * FROM hold")
    foreign = desk.post(f"/v1/holds/{hold['id']}/{verb}", body, key=other)
    missing = desk.post(f"/v1/holds/{MISSING}/{verb}", body, key=other)
    garbage = desk.post(f"/v1/holds/nonsense/{verb}", body, key=other)
    assert foreign.status_code == missing.status_code == garbage.status_code == 404
    assert foreign.json() == missing.json() == garbage.json()
    assert desk.rows("SELECT * FROM hold") == before
    assert desk.recorded() == 0


@pytest.mark.parametrize("verb", ["settle", "void", "extend"])
def test_a_bound_key_does_not_find_another_agents_hold(desk: Desk, verb: str) -> None:
    body = {"extend": {"deadline_s": 5}, "settle": {"cost_usd": "0.01"}}.get(verb, {})
    hold = held(desk, project="p")
    before = desk.rows("SELECT * FROM hold")
    for bound in ({"agent": "else"}, {"project": "else"}):
        key = desk.new_key(Scope.INGEST, **bound)
        assert desk.post(f"/v1/holds/{hold['id']}/{verb}", body, key=key).status_code == 404
    assert desk.rows("SELECT * FROM hold") == before
    key = desk.new_key(Scope.INGEST, agent="bot")
    assert desk.post(f"/v1/holds/{hold['id']}/{verb}", body, key=key).status_code == 200


def test_a_key_settles_what_another_key_of_the_organisation_asked_for(desk: Desk) -> None:
    hold = held(desk)
    key = desk.new_key(Scope.INGEST)
    answer = desk.post(f"/v1/holds/{hold['id']}/settle", {"cost_usd": "0.01"}, key=key)
    assert answer.json()["outcome"] == "settled"


def test_no_other_route_stands_below_a_hold(desk: Desk) -> None:
    hold = held(desk)
    for path in (f"/v1/holds/{hold['id']}/grow", f"/v1/holds/{hold['id']}", "/v1/holds/"):
        assert desk.post(path, {}).status_code in {404, 405}
