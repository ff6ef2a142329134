"""What a hold sets aside when the caller counts tokens: prices, ceilings, clamps, what was learned."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from holding import ask, budget, figures, held, settle

from support.desk import Desk, event, open_desk
from support.engines import Database

INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
"""What gpt-4o costs a token."""


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened
        assert opened.violations() == ()


def usage(desk: Desk, model: str = "gpt-4o", **counts: object) -> dict[str, object]:
    """Return a hold that was granted for token counts."""
    return held(desk, None, model=model, usage=counts)


def price(desk: Desk, pattern: str, **per_million: str) -> None:
    assert desk.post("/v1/prices", {"pattern": pattern, "per_million": per_million}).status_code == 201


def test_input_and_the_most_output_are_priced(desk: Desk) -> None:
    hold = usage(desk, input_tokens=1200, max_output_tokens=500)
    assert Decimal(str(hold["amount_usd"])) == 1200 * INPUT + 500 * OUTPUT
    assert hold["max_output_tokens"] == 500


def test_input_that_the_caller_calls_cached_is_priced_so(desk: Desk) -> None:
    whole = usage(desk, input_tokens=1000, max_output_tokens=1)
    split = usage(desk, input_tokens=200, cache_read_tokens=800, max_output_tokens=1)
    assert Decimal(str(split["amount_usd"])) < Decimal(str(whole["amount_usd"]))


def test_output_counts_as_reasoning_where_that_is_dearer(desk: Desk) -> None:
    price(desk, "own-*", input_tokens="1", output_tokens="2", reasoning_tokens="50")
    hold = usage(desk, "own-model", input_tokens=0, max_output_tokens=1_000_000)
    assert hold["amount_usd"] == "50.00"


def test_the_service_tier_decides_the_price(desk: Desk) -> None:
    counts = {"input_tokens": 1_000_000, "max_output_tokens": 1}
    standard = held(desk, None, usage=counts)
    batch = held(desk, None, usage=counts, service_tier="batch")
    assert Decimal(str(batch["amount_usd"])) < Decimal(str(standard["amount_usd"]))


def test_tokens_calls_and_time_are_held_where_budgets_count_them(desk: Desk) -> None:
    limits = {"tokens_input": "5000", "tokens_output": "5000", "calls": "10", "duration": "900000"}
    for metric, limit in limits.items():
        budget(desk, limit, metric=metric, name=metric)
    hold = held(desk, None, usage={"input_tokens": 7, "cache_read_tokens": 5, "max_output_tokens": 9})
    amounts = {seen["budget"]: seen["amount"] for seen in hold["windows"]}
    assert amounts == {"tokens_input": "12", "tokens_output": "9", "calls": "1", "duration": "600000"}


def test_a_free_model_is_never_blocked_by_a_money_budget(desk: Desk) -> None:
    price(desk, "free-*", input_tokens="0", output_tokens="0")
    budget(desk, "0.10")
    settle(desk, held(desk, "0.10"), "0.20")
    assert ask(desk, "0.01").status_code == 402
    free = ask(desk, None, model="free-model", usage={"input_tokens": 10, "max_output_tokens": 10})
    assert (free.status_code, free.json()["amount_usd"]) == (201, "0.00")


def test_an_unknown_price_is_refused_on_a_hard_budget_and_says_so(desk: Desk) -> None:
    budget(desk, "5.00")
    answer = ask(desk, None, model="nobody-knows", usage={"input_tokens": 10})
    body = answer.json()
    assert (answer.status_code, body["reason"], body["asked"]) == (402, "unknown_price", None)
    assert "ceiling_usd" in body["detail"]


def test_an_unknown_price_passes_a_soft_budget(desk: Desk) -> None:
    budget(desk, "5.00", mode="soft")
    hold = held(desk, None, model="nobody-knows", usage={"input_tokens": 10})
    assert (hold["amount_usd"], hold["max_output_tokens"]) == (None, 4096)


def test_a_ceiling_stands_for_the_price_that_nobody_knows_and_for_no_other(desk: Desk) -> None:
    made = budget(desk, "5.00")
    counts = {"input_tokens": 10, "max_output_tokens": 10}
    hold = held(desk, None, model="nobody-knows", usage=counts, ceiling_usd="0.75")
    assert hold["amount_usd"] == "0.75"
    assert figures(desk, made) == ("0.00", "0.75")
    known = held(desk, None, usage=counts, ceiling_usd="0.75")
    assert Decimal(str(known["amount_usd"])) == 10 * INPUT + 10 * OUTPUT


def test_a_smaller_grant_fits_and_names_the_output_that_it_pays_for(desk: Desk) -> None:
    made = budget(desk, "0.01")
    counts = {"input_tokens": 400, "max_output_tokens": 2000}
    assert ask(desk, None, usage=counts).status_code == 402
    hold = held(desk, None, usage=counts, allow_smaller=True)
    assert hold["max_output_tokens"] == 900
    assert figures(desk, made) == ("0.00", "0.01")
    settled = settle(desk, hold, usage={"input_tokens": 400, "output_tokens": 900}).json()
    assert settled["windows"][0]["overrun"] == "0.00"


def test_a_smaller_grant_that_is_of_no_use_is_refused(desk: Desk) -> None:
    budget(desk, "0.01")
    counts = {"input_tokens": 400, "max_output_tokens": 2000}
    assert ask(desk, None, usage=counts, allow_smaller=True, min_output_tokens=901).status_code == 402
    assert ask(desk, None, usage=counts, allow_smaller=True, min_output_tokens=900).status_code == 201


def test_a_budget_that_clamps_bounds_the_output(desk: Desk) -> None:
    budget(desk, thresholds=[{"at": 0.5, "action": "clamp", "max_output_tokens": 100}])
    counts = {"input_tokens": 10, "max_output_tokens": 1000}
    assert held(desk, None, usage=counts)["max_output_tokens"] == 1000
    held(desk, "0.60")
    assert held(desk, None, usage=counts)["max_output_tokens"] == 100


def test_a_call_that_names_no_output_gets_a_modest_one_before_anything_is_learned(desk: Desk) -> None:
    hold = usage(desk, input_tokens=1000)
    assert hold["max_output_tokens"] == 4096


def test_output_is_learned_per_agent_and_model_from_settled_calls(desk: Desk) -> None:
    for output in range(180, 220):
        hold = usage(desk, input_tokens=10)
        settle(desk, hold, usage={"input_tokens": 10, "output_tokens": output})
    learned = usage(desk, input_tokens=10)["max_output_tokens"]
    assert isinstance(learned, int)
    assert 219 <= learned <= 250
    assert usage(desk, "gpt-4o-mini", input_tokens=10)["max_output_tokens"] == 4096
    new_agent = held(desk, None, agent="another", usage={"input_tokens": 10})
    assert new_agent["max_output_tokens"] == learned


def test_output_is_learned_from_calls_that_did_not_ask_too(desk: Desk) -> None:
    budget(desk, "5.00")
    desk.ingest(*[event(agent_name="bot", output_tokens=100) for _ in range(40)])
    learned = usage(desk, input_tokens=10)["max_output_tokens"]
    assert isinstance(learned, int)
    assert 100 <= learned <= 111


def test_what_was_learned_is_known_after_a_restart(database: Database) -> None:
    with open_desk(database) as first:
        for _ in range(30):
            hold = usage(first, input_tokens=10)
            settle(first, hold, usage={"input_tokens": 10, "output_tokens": 100})
        first.run(first.treasury.start())
        key = first.key
    with open_desk(database, "second") as second:
        body = {"agent": "bot", "model": "gpt-4o", "usage": {"input_tokens": 10}}
        learned = second.post("/v1/holds", body, key=key).json()["max_output_tokens"]
        assert 100 <= learned <= 111


def granted(desk: Desk, most: int) -> list[dict[str, object]]:
    """Return holds of calls that are under way at once, until one is refused."""
    holds: list[dict[str, object]] = []
    while len(holds) < most:
        answer = ask(desk, None, usage={"input_tokens": 100})
        if answer.status_code == 402:
            break
        holds.append(answer.json())
    return holds


def test_a_budget_is_used_to_nine_tenths_by_calls_that_name_no_output(desk: Desk) -> None:
    """Holds of the model's maximum would leave most of it unusable."""
    made = budget(desk, "1.00")
    for output in range(300, 340):
        settle(desk, held(desk, None, agent="teacher", usage={"input_tokens": 100}),
               usage={"input_tokens": 100, "output_tokens": output})  # fmt: skip
    while wave := granted(desk, 20):
        for hold in wave:
            settle(desk, hold, usage={"input_tokens": 100, "output_tokens": 320})
    assert Decimal("0.9") <= Decimal(figures(desk, made)[0]) <= 1


def test_the_estimate_is_no_part_of_the_request_so_a_repeat_still_finds_its_hold(desk: Desk) -> None:
    body = {"agent": "bot", "model": "gpt-4o", "usage": {"input_tokens": 10}, "idempotency_key": "k"}
    first = desk.post("/v1/holds", body).json()
    for _ in range(30):
        settle(desk, usage(desk, input_tokens=10), usage={"input_tokens": 10, "output_tokens": 9})
    again = desk.post("/v1/holds", body)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert again.json()["max_output_tokens"] == 4096


def test_loops_and_depth_of_a_run_are_guarded(desk: Desk) -> None:
    budget(desk, "3", metric="loops", period="run", name="loops")
    budget(desk, "2", metric="depth", period="run", name="depth")
    for _ in range(4):
        assert ask(desk, run="r", fingerprint="the same question").status_code == 201
    looped = ask(desk, run="r", fingerprint="the same question")
    assert (looped.status_code, looped.json()["budget"]) == (402, "loops")
    assert ask(desk, run="r", fingerprint="another question").status_code == 201
    assert ask(desk, run="r", depth=2).status_code == 201
    deep = ask(desk, run="r", depth=3)
    assert (deep.status_code, deep.json()["budget"], deep.json()["asked"]) == (402, "depth", "3")
