"""A budget from a request's fields: what is taken, and which field each refusal names."""

from decimal import Decimal

import pytest
from memory_engine import numbered

from bursar.budgets.amounts import Amounts, Metric, amounts_of, checked, worst_case
from bursar.budgets.budget import (
    DEFAULT_THRESHOLDS,
    Action,
    Budget,
    Mode,
    OnExpiry,
    Scope,
    Threshold,
    Unpriced,
    from_template,
)
from bursar.budgets.hold import Request, checked_request
from bursar.budgets.matching import Call
from bursar.budgets.reading import budget_from_fields
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.periods import Period
from bursar.core.usage import Source, Subject, UsageEvent

NO_MONEY = ("0", "-1", "NaN", "1e30", "x", None, True, 0.1, "0.0000000001")
NO_COUNTS = ("x", "1.5", "inf", 2**63, "-3", "9" * 70)
NO_SHARES = (0, -1, 10.1, "x", None, True, float("nan"))


def read(**fields: object) -> Budget:
    return budget_from_fields({"limit": "1.00", **fields}, budget_id=numbered(1), created_at=1)


def test_a_limit_alone_makes_a_hard_daily_budget_of_the_organisation() -> None:
    budget = read()
    assert (budget.limit, budget.scope, budget.mode) == (1_000_000_000, Scope(), Mode.HARD)
    assert (budget.period, budget.metric, budget.thresholds) == (
        Period.DAILY,
        Metric.COST,
        DEFAULT_THRESHOLDS,
    )


def test_every_field_is_read() -> None:
    budget = read(
        name="ads", scope={"agent": "bot", "model": "gpt-*", "api_key": 3, "tags": {"team": "ads"}},
        metric="tokens_total", period="per_run", limit=5_000, mode="soft", timezone="Asia/Tokyo",
        reset_hour=6, unpriced="allow", on_expiry="suspense", enforcement="required",
        thresholds=[
            1.5, {"at": 0.5, "action": "clamp", "max_output_tokens": 100}, {"at": "0.9", "action": "kill"},
        ],
    )  # fmt: skip
    assert budget == Budget(
        id=numbered(1),
        created_at=1,
        name="ads",
        scope=Scope(agent="bot", model="gpt-*", api_key=3, tags=(("team", "ads"),)),
        metric=Metric.TOKENS_TOTAL,
        period=Period.RUN,
        limit=5_000,
        mode=Mode.SOFT,
        zone="Asia/Tokyo",
        reset_hour=6,
        thresholds=(
            Threshold(500_000, Action.CLAMP, 100),
            Threshold(900_000, Action.KILL),
            Threshold(1_500_000),
        ),
        unpriced=Unpriced.ALLOW,
        on_expiry=OnExpiry.SUSPENSE,
        requires_hold=True,
    )


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        *(("limit", {"limit": value}) for value in NO_MONEY),
        *(("limit", {"limit": value, "metric": "calls"}) for value in NO_COUNTS),
        *(("thresholds[0]", {"thresholds": [value]}) for value in NO_SHARES),
        ("thresholds[1]", {"thresholds": [1, 0.0000001]}),
        ("thresholds", {"thresholds": [0.5, 0.5]}),
        ("thresholds", {"thresholds": [n / 20 for n in range(1, 12)]}),
        ("thresholds", {"thresholds": "0.8"}),
        ("thresholds[0].at", {"thresholds": [{"action": "kill"}]}),
        ("thresholds[0].action", {"thresholds": [{"at": 1, "action": "explode"}]}),
        ("thresholds[0].max_output_tokens", {"thresholds": [{"at": 1, "action": "clamp"}]}),
        ("thresholds[0].max_output_tokens", {"thresholds": [{"at": 1, "max_output_tokens": 5}]}),
        ("thresholds[0].when", {"thresholds": [{"at": 1, "when": "now"}]}),
        ("period", {"period": "yearly"}),
        ("metric", {"metric": "love"}),
        ("mode", {"mode": 1}),
        ("timezone", {"timezone": "Mars/Olympus"}),
        ("reset_hour", {"reset_hour": 24}),
        ("reset_hour", {"reset_hour": True}),
        ("unpriced", {"unpriced": "maybe"}),
        ("on_expiry", {"on_expiry": ""}),
        ("enforcement", {"enforcement": True}),
        ("name", {"name": "x" * 201}),
        ("limits", {"limits": 1}),
        ("scope", {"scope": "bot"}),
        ("scope.agent", {"scope": {"agent": ""}}),
        ("scope.agents", {"scope": {"agents": "bot"}}),
        ("scope.api_key", {"scope": {"api_key": "k"}}),
        ("scope.tags", {"scope": {"tags": ["a"]}}),
        ("scope.tags.team", {"scope": {"tags": {"team": 1}}}),
        ("scope.tags", {"scope": {"tags": {str(n): "x" for n in range(17)}}}),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_the_field_named(field: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(**fields)
    assert caught.value.field == field
    assert caught.value.detail


def test_a_share_written_as_a_json_number_is_what_it_says() -> None:
    assert [t.at_ppm for t in read(thresholds=[0.7, 0.8, Decimal("0.95"), 10]).thresholds] == [
        700_000, 800_000, 950_000, 10_000_000,
    ]  # fmt: skip


def test_a_template_gives_each_agent_a_budget_of_its_own() -> None:
    template = read(limit="5.00")
    assert read(template=True).is_template
    mine = from_template(template, "new")
    assert (mine.scope.agent, mine.limit, mine.created_at) == ("new", template.limit, template.created_at)
    assert mine.id == from_template(template, "new").id != from_template(template, "other").id
    assert not mine.is_template
    assert mine.source == f"template:{template.id.hex()}"


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"template": True, "scope": {"agent": "bot"}}, "scope.agent"), ({"template": "yes"}, "template")],
)
def test_a_template_names_no_agent(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as found:
        read(**fields)
    assert found.value.field == field


@pytest.mark.parametrize(
    "amounts", [Amounts(-1), Amounts(2**63), Amounts(1, tokens_total=-1), Amounts(None, calls=2**63)]
)
def test_amounts_that_no_column_holds_are_refused(amounts: Amounts) -> None:
    with pytest.raises(InvalidAmount) as caught:
        checked(amounts)
    assert caught.value.field in Amounts._fields


@pytest.mark.parametrize(
    "fields", [{"deadline": 0}, {"deadline": 10**15}, {"max_output_tokens": 0}, {"amounts": Amounts(-1)}]
)
def test_a_request_out_of_bounds_is_refused(fields: dict[str, object]) -> None:
    base = {"hold_id": b"h", "key": b"k", "digest": b"d", "call": Call("a"), "amounts": Amounts(1)}
    with pytest.raises(InvalidInput):
        checked_request(Request(**{**base, **fields}))  # type: ignore[arg-type]


def test_a_request_within_bounds_is_taken_as_it_is() -> None:
    request = Request(hold_id=b"h", key=b"k", digest=b"d", call=Call("a"), amounts=Amounts(1))
    assert checked_request(request) is request


def test_an_events_amounts_count_each_token_once() -> None:
    event = UsageEvent(
        key=b"k", occurred_at=1, subject=Subject("a", "p", "m"), source=Source.NATIVE, duration_ms=70,
        input_tokens=1, output_tokens=2, reasoning_tokens=4, cache_read_tokens=8, cache_write_5m_tokens=16,
        cache_write_1h_tokens=32, input_audio_tokens=64, output_image_tokens=128,
    )  # fmt: skip
    assert amounts_of(event, None) == Amounts(None, 255, 121, 134, 1, 70)
    assert worst_case(5, input_tokens=3, max_output_tokens=4, deadline_ms=9) == Amounts(5, 7, 3, 4, 1, 9)


def test_a_breaker_is_read_with_its_latch() -> None:
    budget = read(
        period="minute", metric="loops", limit=3, thresholds=[{"at": 1, "action": "kill", "latch": True}]
    )
    assert (budget.period, budget.metric, budget.limit) == (Period.MINUTE, Metric.LOOPS, 3)
    assert budget.thresholds == (Threshold(1_000_000, Action.KILL, latch=True),)


@pytest.mark.parametrize("action", ["alert", "clamp", "refuse"])
def test_only_a_stop_can_be_latched(action: str) -> None:
    with pytest.raises(InvalidInput) as found:
        read(thresholds=[0.5, {"at": 1, "action": action, "max_output_tokens": 5, "latch": True}])
    assert found.value.field == "thresholds[1].latch"
    with pytest.raises(InvalidInput) as found:
        read(thresholds=[{"at": 1, "action": "kill", "latch": "yes"}])
    assert found.value.field == "thresholds[0].latch"
