"""Pages of events: newest first, each once, as it stands, whatever filter leads to it."""

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_reports_are_exact import events, instants, name_of
from written_ledger import CARD, NOW, UNLISTED, WrittenLedger, call

from bursar.analytics.events import EventQuery, Place
from bursar.analytics.explaining import unit_costs
from bursar.analytics.query import NOT_GIVEN, Dim, Query, Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_MAX, MICROS_MIN, MICROS_PER_DAY, MICROS_PER_HOUR
from bursar.core.usage import RateCard, RateLine, UsageEvent

EVER = Span(MICROS_MIN, MICROS_MAX + 1)
filters = st.fixed_dictionaries(
    {},
    optional={
        Dim.AGENT: st.sampled_from(("scout", "clerk", NOT_GIVEN)),
        Dim.MODEL: st.sampled_from(("gpt-4o", UNLISTED)),
        Dim.PROJECT: st.sampled_from(("web", NOT_GIVEN)),
        Dim.RUN: st.sampled_from(("run-1", NOT_GIVEN)),
    },
)
spans = st.just(EVER) | st.lists(instants, min_size=2, max_size=2, unique=True).map(
    lambda ends: Span(min(ends), max(ends))
)


def all_pages(ledger: WrittenLedger, query: EventQuery) -> list[bytes]:
    """Walk to the end and return every key in the order it came."""
    keys: list[bytes] = []
    while True:
        page = ledger.page(query)
        keys += [event.row.key for event in page.events]
        if not page.has_more:
            return keys
        last = page.events[-1].row
        query = query._replace(before=Place(last.occurred_at, last.key))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(events, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), events), max_size=3),
    filters,
    st.tuples(spans, st.integers(1, 9)),
)
def test_walking_the_pages_gives_every_event_that_passes_once_and_newest_first(
    ledger: WrittenLedger,
    first: list[UsageEvent],
    later: list[tuple[int, UsageEvent]],
    wanted: dict[Dim, str],
    shape: tuple[Span, int],
) -> None:
    span, limit = shape
    org = ledger.new_org()
    standing = {event.key: event for event in first}
    ledger.record(org, first)
    for revision, (position, event) in enumerate(later, start=1):
        key = first[position].key if position < len(first) else event.key
        standing[key] = msgspec.structs.replace(event, key=key, revision=revision)
        ledger.record(org, [standing[key]])
    expected = [
        event.key
        for event in sorted(standing.values(), key=lambda e: (e.occurred_at, e.key), reverse=True)
        if span.starts_at <= event.occurred_at < span.ends_at
        and all((name_of(event, dim) or NOT_GIVEN) == name for dim, name in wanted.items())
    ]
    assert all_pages(ledger, EventQuery(org, span, wanted, limit=limit)) == expected


def test_a_sparse_agent_is_found_behind_many_hours_of_others(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    busy = [call(NOW + hour * MICROS_PER_HOUR, "busy") for hour in range(600)]
    rare = [call(NOW + hour * MICROS_PER_HOUR + 7, "rare") for hour in (0, 3, 400)]
    ledger.record(org, busy + rare)
    page = ledger.page(EventQuery(org, EVER, {Dim.AGENT: "rare"}, limit=2))
    assert ([event.row.key for event in page.events], page.has_more) == ([rare[2].key, rare[1].key], True)


def test_nothing_of_another_organisation_is_in_an_answer(ledger: WrittenLedger) -> None:
    ours, theirs = ledger.new_org(), ledger.new_org()
    names = {"project": "web", "feature": "chat", "user": "ann", "run": "run-1"}
    mine, foreign = call(NOW, input_tokens=1, **names), call(NOW, input_tokens=10**6, **names)
    ledger.record(ours, [mine])
    ledger.record(theirs, [foreign, call(NOW + 1, "their-own", user="only-theirs")])
    span = Span(NOW - MICROS_PER_DAY, NOW + MICROS_PER_DAY)
    for dim in Dim:
        for whole in (span, Span(NOW, NOW + 2)):
            report = ledger.report(Query(ours, whole, (dim,)))
            assert [row.measures.input_tokens for row in report.rows] == [1], dim
            assert report.total.requests == 1
    for wanted in ({}, {Dim.AGENT: "scout"}, {Dim.PROJECT: "web"}, {Dim.RUN: "run-1"}):
        assert [e.row.key for e in ledger.page(EventQuery(ours, EVER, wanted)).events] == [mine.key]
    assert ledger.page(EventQuery(ours, EVER, {Dim.AGENT: "their-own"})).events == []
    assert ledger.history(ours, foreign.key) is None


def test_an_event_is_explained_by_its_card_and_by_every_entry(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    event = call(NOW, input_tokens=1_000, output_tokens=10, prompt="hello")
    ledger.record(org, [event])
    ledger.record(org, [msgspec.structs.replace(event, revision=2, input_tokens=2_000)])
    history = ledger.history(org, event.key)
    assert history is not None
    assert (history.event.revision, history.event.row.cost_nusd) == (2, 5_100_000)
    assert [(step.sign, step.row.cost_nusd) for step in history.steps] == [
        (1, 2_600_000),
        (-1, 2_600_000),
        (1, 5_100_000),
    ]
    assert (history.card, history.prompt) == (CARD, "hello")
    lines = [(line.unit, line.units, line.amount_usd) for line in unit_costs(history.event.row, CARD)]
    assert lines == [("input_tokens", 2_000, "0.005"), ("output_tokens", 10, "0.0001")]


def test_an_event_without_a_price_has_no_card_and_no_cost(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    event = call(NOW, model=UNLISTED)
    ledger.record(org, [event])
    history = ledger.history(org, event.key)
    assert history is not None
    assert (history.card, history.event.row.cost_nusd) == (None, None)


def test_the_amounts_of_a_price_keep_every_digit_and_name_what_has_no_rate(ledger: WrittenLedger) -> None:
    org = ledger.new_org()
    ledger.record(org, [call(NOW, input_tokens=3, reasoning_tokens=4)])
    row = ledger.page(EventQuery(org, EVER)).events[0].row
    card = RateCard(b"", "p", "m", CARD.service_tier, (RateLine("input_tokens", 1),), "made up")
    assert unit_costs(row, card) == [
        ("input_tokens", 3, "0.000000001", 0, "0.000000000000003"),
        ("reasoning_tokens", 4, None, None, None),
    ]


def test_an_unknown_organisation_has_no_events(ledger: WrittenLedger) -> None:
    assert ledger.page(EventQuery(Org(999_999), EVER)).events == []
