"""Ways to get past a hard budget, or to take another's room, by requests that are each well formed."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from random import Random
from time import process_time
from typing import Any

import pytest
from holding import ask, budget, figures, held, settle, void, window

from bursar.budgets.budget import Budget, Scope, Terms
from bursar.budgets.matching import TooManyBudgets, check_room_for
from bursar.budgets.reading import budget_from_fields
from bursar.budgets.refusal import Reason, Refused
from bursar.budgets.window import WindowKey
from bursar.core.ids import Org, new_id
from bursar.enforcement.hold_reading import Holder, Holders
from bursar.enforcement.ports import Transaction
from bursar.http.v1.hold_answers import exceeded_problem
from bursar.http.v1.hold_body import HoldDecoder
from bursar.identity.keys import Scope as KeyScope
from bursar.web.principal import Principal
from support.desk import Desk, open_desk
from support.engines import Database

CALL = {"agent": "bot", "model": "gpt-4o"}


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def spend(desk: Desk, *events: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """Record events of the native form, and return the answer."""
    answer = desk.post("/v1/events", list(events), key=key)
    assert answer.status_code in {200, 201}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def uuid_of(hold: dict[str, Any]) -> str:
    digits = hold["id"].removeprefix("hold_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class TestKeysAndRevisions:
    def test_a_revision_in_the_same_body_counts_as_the_ledger_has_it(self, desk: Desk) -> None:
        made = budget(desk)
        first = {**CALL, "idempotency_key": "k", "cost_usd": "0.01"}
        spend(desk, first, {**first, "cost_usd": "0.70", "revision": 1})
        assert figures(desk, made) == ("0.70", "0.00")

    def test_a_revision_beside_the_settlement_it_revises_counts_too(self, desk: Desk) -> None:
        made = budget(desk)
        first = {"hold_id": held(desk, "0.10")["id"], "idempotency_key": "k", "cost_usd": "0.01"}
        spend(desk, first, {**first, "cost_usd": "0.70", "revision": 1})
        assert figures(desk, made) == ("0.70", "0.00")

    def test_a_settled_call_releases_no_second_hold(self, desk: Desk) -> None:
        made = budget(desk)
        paid = {"idempotency_key": "k", "cost_usd": "0.10"}
        assert settle(desk, held(desk, "0.10"), **paid).status_code == 200
        other = held(desk, "0.50")
        answer = settle(desk, other, **paid)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
        assert spend(desk, {"hold_id": other["id"], **paid})["conflicts"] == [0]
        assert figures(desk, made) == ("0.10", "0.50")

    def test_a_revision_stays_with_the_hold_that_it_settled(self, desk: Desk) -> None:
        made = budget(desk)
        paid = {"idempotency_key": "k", "cost_usd": "0.10"}
        settle(desk, held(desk, "0.10"), **paid)
        other = held(desk, "0.50")
        moved = {**paid, "hold_id": other["id"], "revision": 1}
        assert spend(desk, moved)["conflicts"] == [0]
        spend(desk, {**CALL, "idempotency_key": "k", "cost_usd": "0.40", "revision": 2})
        assert figures(desk, made) == ("0.40", "0.50")

    def test_a_call_named_after_a_hold_does_not_touch_what_the_hold_spent(self, desk: Desk) -> None:
        made = budget(desk)
        hold = held(desk, "0.50")
        settle(desk, hold, "0.50")
        other = {"agent": "other", "model": "gpt-4o", "idempotency_key": uuid_of(hold), "cost_usd": "0.50"}
        assert spend(desk, other)["recorded"] == 1
        assert spend(desk, other)["duplicates"] == 1
        spend(desk, {**other, "cost_usd": "0.00", "revision": 1})
        assert figures(desk, made) == ("0.50", "0.00")

    def test_a_hold_named_after_a_hold_is_corrected_alone(self, desk: Desk) -> None:
        made = budget(desk)
        first = held(desk, "0.50")
        settle(desk, first, "0.50")
        other = ask(desk, "0.20", key=uuid_of(first), agent="other").json()
        assert settle(desk, other, "0.20").status_code == 200
        spend(desk, {"hold_id": other["id"], "cost_usd": "0.00", "revision": 1})
        assert figures(desk, made) == ("0.50", "0.00")


class TestOtherNames:
    def test_a_key_of_a_project_settles_no_hold_without_one(self, desk: Desk) -> None:
        made = budget(desk)
        hold = held(desk, "0.50")
        bound = desk.new_key(KeyScope.INGEST, project="theirs")
        spend(desk, {**CALL, "hold_id": hold["id"], "cost_usd": "0.00"}, key=bound)
        assert figures(desk, made) == ("0.00", "0.50")

    def test_a_call_that_turns_to_another_model_counts_in_that_models_budget(self, desk: Desk) -> None:
        dear = budget(desk, name="dear", scope={"model": "o1-pro"})
        own = budget(desk, "5.00", name="own")
        desk.advance(1)
        settle(desk, held(desk, "0.10"), "0.60", model="o1-pro", provider="openai")
        assert figures(desk, dear) == ("0.60", "0.00")
        assert window(desk, dear)["unheld"] == "0.60"
        assert figures(desk, own) == ("0.60", "0.00")

    def test_so_does_a_call_of_another_user(self, desk: Desk) -> None:
        theirs = budget(desk, name="theirs", scope={"user": "u2"})
        desk.advance(1)
        spend(desk, {"hold_id": held(desk, "0.10", user="u1")["id"], "user": "u2", "cost_usd": "0.60"})
        assert figures(desk, theirs) == ("0.60", "0.00")


class TestUnits:
    def test_a_ceiling_of_nothing_is_none(self, desk: Desk) -> None:
        budget(desk)
        answer = ask(desk, None, model="nobody/knows", usage={"max_output_tokens": 1}, ceiling_usd="0")
        assert (answer.status_code, answer.json()["field"]) == (422, "ceiling_usd")

    @pytest.mark.parametrize("metric", ["tokens_total", "tokens_input", "tokens_output"])
    def test_an_amount_of_money_is_no_question_to_a_budget_of_tokens(self, desk: Desk, metric: str) -> None:
        budget(desk, "1000", metric=metric, name="tokens")
        answer = ask(desk, "0.10")
        assert (answer.status_code, answer.json()["reason"]) == (402, "unknown_usage")
        assert ask(desk, None, usage={"input_tokens": 10, "max_output_tokens": 10}).status_code == 201

    def test_nor_is_it_for_a_lease(self, desk: Desk) -> None:
        budget(desk, "1000", metric="tokens_total", name="tokens")
        wanted = {**CALL, "idempotency_key": "k", "instance": "process-1", "wants": {"amount_usd": "0.01"}}
        answer = desk.post("/v1/leases", wanted)
        assert (answer.status_code, answer.json()["reason"]) == (402, "unknown_usage")

    def test_a_soft_budget_of_tokens_lets_an_amount_pass(self, desk: Desk) -> None:
        budget(desk, "1000", metric="tokens_total", mode="soft")
        assert ask(desk, "0.10").status_code == 201


class TestForms:
    @pytest.mark.parametrize("source", ["template:00", "sdk:bot", "person", 7])
    def test_nobody_says_who_made_a_budget(self, desk: Desk, source: object) -> None:
        answer = desk.post("/v1/budgets", {"limit": "1", "source": source})
        assert (answer.status_code, answer.json()["field"]) == (422, "source")

    def test_a_scope_takes_every_name_that_a_call_may_have(self, desk: Desk) -> None:
        name = "n" * 256
        made = budget(desk, scope={"agent": name, "project": name, "tags": {name: name}})
        spend(
            desk,
            {**CALL, "agent": name, "project": name, "attributes": {"tags": {name: name}}, "cost_usd": "0.1"},
        )
        assert figures(desk, made) == ("0.10", "0.00")
        answer = desk.post("/v1/budgets", {"limit": "1", "scope": {"agent": name + "n"}})
        assert (answer.status_code, answer.json()["field"]) == (422, "scope.agent")


class TestGuardsOfEvents:
    def test_the_same_call_again_is_a_loop(self, desk: Desk) -> None:
        made = budget(desk, "2", metric="loops", period="run")
        for _ in range(2):
            spend(desk, {**CALL, "run_id": "r", "fingerprint": "same"})
            spend(desk, {**CALL, "run_id": "r", "attributes": {"fingerprint": "same"}})
        spend(desk, {**CALL, "run_id": "r", "fingerprint": "other"})
        (seen,) = desk.get(f"/v1/budgets/{made['id']}/windows", run="r").json()["data"]
        assert (seen["settled"], seen["unheld"]) == ("3", "3")
        assert ask(desk, run="r", fingerprint="same").status_code == 402

    def test_a_granted_repetition_proves_clean_once_it_is_settled(self, desk: Desk) -> None:
        made = budget(desk, "2", metric="loops", period="run")
        for _ in range(2):
            hold = held(desk, run="r", fingerprint="same", depth=1)
            assert settle(desk, hold, "0.01", fingerprint="same", depth=3).status_code == 200
        (seen,) = desk.get(f"/v1/budgets/{made['id']}/windows", run="r").json()["data"]
        assert (seen["settled"], seen["held"]) == ("1", "0")
        assert desk.violations() == ()

    def test_a_depth_trips_the_guard(self, desk: Desk) -> None:
        latch = [{"at": 1.0, "action": "pause", "latch": True}]
        budget(desk, "3", metric="depth", thresholds=latch)
        spend(desk, {**CALL, "depth": 2})
        assert ask(desk).status_code == 201
        spend(desk, {**CALL, "depth": 3})
        assert ask(desk).json()["code"] == "agent_paused"

    @pytest.mark.parametrize("depth", [True, -1, 2**70, 1.5, "3", [3], None])
    def test_what_is_no_depth_counts_for_none(self, desk: Desk, depth: object) -> None:
        budget(desk, "1", metric="depth", thresholds=[{"at": 1.0, "action": "pause", "latch": True}])
        spend(desk, {**CALL, "attributes": {"depth": depth, "fingerprint": 7}})
        assert ask(desk).status_code == 201


def test_only_organisations_with_something_due_are_gone_through(desk: Desk) -> None:
    held(desk, "0.10")
    other = desk.organisation("second")
    enforcement = desk.treasury.enforcement

    async def due(transaction: Transaction) -> list[Org]:
        return list(await transaction.orgs_due(desk.now))

    assert desk.run(desk.treasury.store.transact(due)) == []
    desk.now += 1_000_000_000
    assert desk.run(desk.treasury.store.transact(due)) == [desk.org] != [other]
    desk.run(enforcement.run_due())
    assert desk.run(desk.treasury.store.transact(due)) == []


class TestVoids:
    def audited(self, desk: Desk) -> list[tuple[object, ...]]:
        return desk.rows("SELECT actor, target, details FROM audit WHERE action = 'hold.void' ORDER BY seq")

    def test_a_reason_is_written_down_once(self, desk: Desk) -> None:
        hold, key = held(desk), desk.new_key(KeyScope.INGEST)
        for _ in range(2):
            answer = desk.post(f"/v1/holds/{hold['id']}/void", {"reason": "never\nsent"}, key=key)
            assert (answer.status_code, answer.json()["state"]) == (200, "voided")
        ((actor, target, details),) = self.audited(desk)
        assert (str(actor).startswith("key:"), target) == (True, hold["id"])
        assert json.loads(str(details))["reason"] == "never\nsent"
        assert desk.post(f"/v1/holds/{held(desk)['id']}/void", {}, key=key).status_code == 200
        assert len(self.audited(desk)) == 1

    def test_an_operators_void_of_what_is_suspended_is_written_down(self, desk: Desk) -> None:
        made = budget(desk, on_expiry="suspense")
        hold = held(desk, "0.40")
        desk.advance(1_000)
        assert void(desk, hold, desk.new_key(KeyScope.INGEST)).status_code == 403
        assert self.audited(desk) == []
        assert void(desk, hold).status_code == 200
        ((_, _, details),) = self.audited(desk)
        assert json.loads(str(details))["before"] == "suspense"
        assert figures(desk, made) == ("0.00", "0.00")


class TestRaises:
    def crossed(self, desk: Desk, until: str, limit: str) -> None:
        (incident,) = desk.get("/v1/incidents", state="open").json()["data"]
        body = {"limit": limit, "until": f"2026-03-02T{until}:00:00Z"}
        answer = desk.post(f"/v1/incidents/{incident['id']}/raise", body)
        assert answer.status_code == 200, answer.text

    @pytest.mark.parametrize(
        ("first", "second", "between"), [("01", "02", "3.00"), ("02", "01", "2.00")], ids=["first", "second"]
    )
    def test_the_end_of_two_raises_leaves_the_budgets_own_limit(
        self, desk: Desk, first: str, second: str, between: str
    ) -> None:
        made = budget(desk)
        settle(desk, held(desk, "1.00"), "1.00")
        self.crossed(desk, first, "2.00")
        settle(desk, held(desk, "1.00"), "1.00")
        self.crossed(desk, second, "3.00")
        desk.advance(3_600)
        assert window(desk, made)["limit"] == between
        desk.advance(3_600)
        assert window(desk, made)["limit"] == "1.00"


def test_who_holds_the_room_never_adds_up_to_more_than_is_held() -> None:
    made = budget_from_fields({"limit": "1.00"}, budget_id=b"b" * 16, created_at=0)
    refused = Refused(Reason.NO_ROOM, WindowKey(made.id, "", 0), 10**9, 0, 36 * 10**7, 7 * 10**8, None)
    later = Holders([Holder("bot", 37 * 10**7, 37), Holder("", 10**7, 1)], is_partial=False)
    told = exceeded_problem(refused, made, later, keys={}, now=0)
    assert "0.36 is held (by bot, by others)" in str(told["detail"])
    assert told["held_by_is_later"] is True
    then = exceeded_problem(refused, made, Holders([Holder("bot", 36 * 10**7, 36)], False), keys={}, now=0)
    assert "0.36 is held (0.36 by bot)" in str(then["detail"])
    assert then["held_by_is_later"] is False


def test_long_names_are_not_kept_in_memory() -> None:
    decoder = HoldDecoder()
    principal = Principal(org=Org(1), actor="key:k", scopes=frozenset(), api_key=1)
    for place in range(50):
        tags = {f"{place}-{tag}": "t" * 256 for tag in range(16)}
        body = {**CALL, "amount_usd": "1", "tags": tags}
        assert len(decoder.decode(json.dumps(body).encode(), None, principal, 0).call.tags) == 16
    assert not decoder._kept
    decoder.decode(json.dumps({**CALL, "amount_usd": "1"}).encode(), None, principal, 0)
    assert len(decoder._kept) == 1


class TestManyAgents:
    def kept(self, desk: Desk) -> Mapping[bytes, Terms]:
        return desk.treasury.enforcement.indexes.kept(desk.org)

    def stored(self, desk: Desk) -> set[object]:
        return {row[0] for row in desk.rows("SELECT id FROM budget WHERE deleted_at IS NULL")}

    def test_one_agent_more_is_no_reason_to_read_every_budget_again(self, desk: Desk) -> None:
        budget(desk, scope={}, template=True)
        for door in (lambda: spend(desk, {**CALL, "agent": "new-1"}), lambda: held(desk, agent="new-2")):
            door()
            before = self.kept(desk)
            assert set(before) == self.stored(desk)
            held(desk, agent="new-1")
            assert self.kept(desk) is before
        assert len(before) == 3

    def test_budgets_that_are_undone_with_their_commit_are_forgotten(self, desk: Desk) -> None:
        budget(desk, scope={}, template=True)
        huge = {**CALL, "agent": "new", "cost_usd": "9000000000"}
        answer = spend(desk, huge, huge)
        assert (answer["recorded"], answer["quarantined"]) == (1, [1])
        assert ask(desk, agent="new").status_code == 402
        assert set(self.kept(desk)) == self.stored(desk)
        assert len(self.kept(desk)) == 2


def test_whether_a_budget_fits_in_is_told_in_bounded_time() -> None:
    rng = Random(1)  # noqa: S311 - a fixed sequence, no secret
    kinds = (("project", 300), ("agent", 2_000), ("user", 1_000), ("run", 2_000))

    def scope() -> Scope:
        names = {name: f"{rng.randrange(most)}" for name, most in kinds if rng.random() < 0.5}
        tags = tuple((f"t{tag}", f"{rng.randrange(50)}") for tag in range(6) if rng.random() < 0.3)
        return Scope(**names, tags=tags)  # type: ignore[arg-type] # all of these are text

    active = [Budget(id=new_id(), limit=1, created_at=0, scope=scope()) for _ in range(500)]
    begun = process_time()
    with suppress(TooManyBudgets):
        check_room_for(Budget(id=new_id(), limit=1, created_at=0), active)
    assert process_time() - begun < 2.5
