"""Ways to get past a hard budget, or to take another's room, by requests that are each well formed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from holding import ask, budget, figures, held, settle, window

from bursar.identity.keys import Scope
from support.desk import Desk, open_desk

CALL = {"agent": "bot", "model": "gpt-4o"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path / "data") as opened:
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
        bound = desk.new_key(Scope.INGEST, project="theirs")
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
