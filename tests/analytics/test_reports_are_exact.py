"""Whatever is asked, the answer is the plain sum over the events as they stand."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_ledger import UNLISTED, WrittenLedger, call, cost_of

from bursar.analytics.query import NOT_GIVEN, NOTHING, Dim, Query, Span, add
from bursar.analytics.slices import Granularity, slices
from bursar.core.periods import Period, window_at
from bursar.core.time import MICROS_PER_HOUR
from bursar.core.usage import Billing, UsageEvent
from bursar.core.zones import parse_zone
from bursar.ledger.rows import Measures

# Clocks change in Lord Howe (by half an hour) on 4 April, in Santiago at midnight of the 5th.
FIRST = 1_775_174_400_000_000 // MICROS_PER_HOUR * MICROS_PER_HOUR
HOURS = (0, 17, 18, 19, 24, 38, 39, 40, 50, 51, 52, 53, 95)
ZONES = ("UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago")
PERIODS = {Granularity.HOUR: Period.HOURLY, Granularity.DAY: Period.DAILY, Granularity.WEEK: Period.WEEKLY}
HALF = MICROS_PER_HOUR // 2

instants = st.builds(
    lambda hour, within: FIRST + hour * MICROS_PER_HOUR + within,
    st.sampled_from(HOURS),
    st.sampled_from((0, 1, HALF - 1, HALF, MICROS_PER_HOUR - 1)) | st.integers(0, MICROS_PER_HOUR - 1),
)
few = st.sampled_from
events = st.builds(
    call,
    instants,
    agent=few(("scout", "clerk", "")),
    provider=few(("openai", "azure", "")),
    model=few(("gpt-4o", "o3", UNLISTED)),
    input_tokens=st.integers(0, 9_999),
    output_tokens=st.integers(0, 999),
    reasoning_tokens=st.integers(0, 9),
    cache_read_tokens=st.integers(0, 9),
    cache_write_1h_tokens=st.integers(0, 9),
    input_audio_tokens=few((0, 0, 7)),
    web_searches=few((0, 0, 2)),
    duration_ms=st.integers(0, 5_000),
    reported_nusd=few((None, None, 12_345_678_901)),
    is_error=st.booleans(),
    billing=st.sampled_from(Billing),
    project=few(("web", "batch", "")),
    feature=few(("chat", "")),
    user=few(("ann", "bob", "")),
    run=few(("", "run-1", "0192f0c4-0000-7000-8000-000000000001")),
)


class Question(NamedTuple):
    span: Span
    dims: tuple[Dim, ...]
    filters: dict[Dim, str]
    granularity: Granularity | None
    zone: str


names = {
    Dim.AGENT: ("scout", "clerk", NOT_GIVEN, "nobody"),
    Dim.MODEL: ("gpt-4o", UNLISTED, "nothing"),
    Dim.PROVIDER: ("openai", "guessed"),
    Dim.PROJECT: ("web", NOT_GIVEN),
    Dim.FEATURE: ("chat", NOT_GIVEN),
    Dim.USER: ("ann", NOT_GIVEN),
    Dim.RUN: ("run-1", NOT_GIVEN, "0192f0c4-0000-7000-8000-000000000001"),
    Dim.BILLING: ("metered", "subscription"),
}
questions = st.builds(
    lambda ends, dims, filters, granularity, zone: Question(
        Span(min(ends), max(ends)), tuple(dims), filters, granularity, zone
    ),
    st.lists(instants, min_size=2, max_size=2, unique=True),
    st.lists(st.sampled_from(Dim), max_size=3, unique=True),
    st.fixed_dictionaries({}, optional={dim: few(some) for dim, some in names.items()})
    .map(lambda given: dict(list(given.items())[:3])),
    st.none() | st.sampled_from(list(PERIODS)),
    few(ZONES),
)  # fmt: skip


def name_of(event: UsageEvent, dim: Dim) -> str | None:
    subject = event.subject
    provider = subject.provider or "guessed"
    billing = event.billing.name.lower()
    fields = {**subject._asdict(), "provider": provider, "billing": billing, "run": event.run}
    return fields[dim.value] or None


def measures_of(event: UsageEvent) -> Measures:
    unpriced = cost_of(event) is None
    return Measures(
        requests=1,
        errors=int(event.is_error),
        unpriced_requests=int(unpriced),
        unpriced_tokens=event.tokens_total if unpriced else 0,
        cost_nusd=cost_of(event) or 0,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        reasoning_tokens=event.reasoning_tokens,
        cache_read_tokens=event.cache_read_tokens,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=event.cache_write_1h_tokens,
        media_tokens=event.input_audio_tokens,
        web_searches=event.web_searches,
        duration_ms=event.duration_ms,
    )


def plain_sums(question: Question, standing: Iterable[UsageEvent]) -> dict[object, Measures]:
    """The answer by the plainest way: one event after the other."""
    zone = parse_zone(question.zone)
    sums: dict[object, Measures] = {}
    for event in standing:
        wanted = {dim: None if name == NOT_GIVEN else name for dim, name in question.filters.items()}
        if not question.span.starts_at <= event.occurred_at < question.span.ends_at:
            continue
        if any(name_of(event, dim) != name for dim, name in wanted.items()):
            continue
        piece = question.span.starts_at
        if question.granularity is not None:
            window = window_at(PERIODS[question.granularity], zone, 0, event.occurred_at)
            piece = max(piece, window.starts_at)
        dims = {*question.dims, *({Dim.PROVIDER} if Dim.MODEL in question.dims else ())}
        group = (piece, frozenset((dim.value, name_of(event, dim)) for dim in dims))
        sums[group] = add(sums.get(group, NOTHING), measures_of(event))
    return sums


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(events, max_size=25),
    st.lists(st.tuples(st.integers(0, 24), events), max_size=4),
    st.lists(questions, min_size=3, max_size=8),
)
def test_every_total_is_the_plain_sum_of_the_events_as_they_stand(
    ledger: WrittenLedger,
    first: list[UsageEvent],
    later: list[tuple[int, UsageEvent]],
    asked: list[Question],
) -> None:
    org = ledger.new_org()
    standing = {event.key: event for event in first}
    ledger.record(org, first)
    for revision, (position, event) in enumerate(later, start=1):
        key = first[position].key if position < len(first) else event.key
        revised = msgspec.structs.replace(event, key=key, revision=revision)
        ledger.record(org, [revised])
        standing[key] = revised
    for question in asked:
        zone = parse_zone(question.zone)
        pieces = slices(question.granularity, zone, question.span) if question.granularity else ()
        spans = tuple(piece.span for piece in pieces)
        report = ledger.report(Query(org, question.span, question.dims, question.filters, spans))
        starts = [span.starts_at for span in spans] or [question.span.starts_at]
        answer = {(starts[row.piece], frozenset(row.labels.items())): row.measures for row in report.rows}
        expected = plain_sums(question, standing.values())
        assert answer == expected, question
        assert report.total == sum_of(expected.values())


def sum_of(measures: Iterable[Measures]) -> Measures:
    total = NOTHING
    for one in measures:
        total = add(total, one)
    return total
