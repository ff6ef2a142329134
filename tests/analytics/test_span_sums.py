"""Sums that are kept in memory: whatever was written in between, they are what the ledger holds now."""

import asyncio
from itertools import pairwise

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_ledger import UNLISTED, WrittenLedger, call, cost_of

from bursar.analytics.agents import Use
from bursar.analytics.query import Span
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE
from bursar.core.usage import UsageEvent
from bursar.storage.sql.ports import Connection
from bursar.storage.sql.span_sums import SpanSums, Told, pieces_of

MIDNIGHT = 20_550 * MICROS_PER_DAY
DAYS = 5

instants = st.builds(
    lambda hour, within: MIDNIGHT + hour * MICROS_PER_HOUR + within,
    st.integers(-24 * DAYS, 30),
    st.sampled_from((0, 1, 30 * MICROS_PER_MINUTE, MICROS_PER_HOUR - 1)),
)
spans = st.lists(instants, min_size=2, max_size=2, unique=True).map(lambda ends: Span(min(ends), max(ends)))
events = st.builds(
    call,
    instants,
    agent=st.sampled_from(("scout", "clerk", "")),
    model=st.sampled_from(("gpt-4o", UNLISTED)),
    input_tokens=st.integers(0, 99),
    output_tokens=st.integers(0, 99),
    reasoning_tokens=st.integers(0, 9),
    cache_read_tokens=st.integers(0, 9),
    cache_write_5m_tokens=st.integers(0, 9),
    cache_write_1h_tokens=st.integers(0, 9),
    duration_ms=st.integers(0, 9),
    feature=st.sampled_from(("chat", "")),
)
batches = st.lists(
    st.tuples(st.lists(events, min_size=1, max_size=6), st.lists(st.integers(0, 99), max_size=2)),
    min_size=1,
    max_size=5,
)


def use_of(held: list[UsageEvent]) -> Use:
    """Return the plain sum of events."""
    return Use(
        len(held),
        sum(cost_of(one) or 0 for one in held),
        sum(
            one.input_tokens + one.cache_read_tokens + one.cache_write_5m_tokens + one.cache_write_1h_tokens
            for one in held
        ),
        sum(one.output_tokens + one.reasoning_tokens for one in held),
        sum(one.duration_ms for one in held),
        sum(cost_of(one) is None for one in held),
    )


def asked(
    ledger: WrittenLedger, org: Org, sums: SpanSums, wanted: list[Span], now: int
) -> list[dict[int, Use]]:
    found = ledger.read(org, lambda connection: sums.used(connection, org, wanted, now))
    return [{who: Use._make(used) for who, used in uses.items() if any(used)} for uses in found]


def expected(held: list[UsageEvent], span: Span, agents: dict[str, int]) -> dict[int, Use]:
    within = [one for one in held if span.starts_at <= one.occurred_at < span.ends_at]
    uses = {
        number: use_of([one for one in within if one.subject.agent == name])
        for name, number in agents.items()
    }
    return {number: use for number, use in uses.items() if use.events}


def numbers(ledger: WrittenLedger, org: Org) -> dict[str, int]:
    found = ledger.read(
        org, lambda one: one.execute("SELECT name, agent FROM agent WHERE org = ?", (org,)).fetchall()
    )
    return {"": 0} | {str(name): int(number) for name, number in found}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=batches, wanted=st.lists(spans, min_size=1, max_size=3), now=instants)
def test_kept_sums_are_the_plain_sums_whichever_process_wrote_a_batch_or_a_correction(
    ledger: WrittenLedger,
    elsewhere: WrittenLedger,
    written: list[tuple[list[UsageEvent], list[int]]],
    wanted: list[Span],
    now: int,
) -> None:
    org, held = ledger.new_org(), list[UsageEvent]()
    processes = (ledger, elsewhere)
    by_agent, in_all = ([SpanSums(told) for _ in processes] for told in (Told.BY_AGENT, Told.IN_ALL))
    for number, (new, corrected) in enumerate(written):
        processes[number % 2].record(org, new)
        held += new
        for place in corrected:
            place %= len(held)  # noqa: PLW2901 - any of those that are there
            old = held[place]
            held[place] = msgspec.structs.replace(old, revision=old.revision + 1, input_tokens=7)
            processes[place % 2].record(org, [held[place]])
        known = numbers(ledger, org)
        within = [[one for one in held if span[0] <= one.occurred_at < span[1]] for span in wanted]
        alls = [{0: use_of(part)} if part else {} for part in within]
        for process, agents, everything in zip(processes, by_agent, in_all, strict=True):
            assert asked(process, org, agents, wanted, now) == [
                expected(held, span, known) for span in wanted
            ]
            assert asked(process, org, everything, wanted, now) == alls


def test_many_ask_at_once_while_batches_come(ledger: WrittenLedger) -> None:
    org, sums = ledger.new_org(), SpanSums(Told.IN_ALL)
    span = Span(MIDNIGHT - DAYS * MICROS_PER_DAY, MIDNIGHT + MICROS_PER_DAY)

    async def ask() -> int:
        (uses,) = await ledger.readers.run(org, lambda one: sums.used(one, org, [span], MIDNIGHT))
        return uses[0][0] if uses else 0

    async def meanwhile() -> list[int]:
        seen: list[int] = []
        for number in range(10):
            batch = [call(MIDNIGHT - number * MICROS_PER_HOUR)]
            *found, _ = await asyncio.gather(*(ask() for _ in range(4)), ledger.write(org, batch))
            assert set(found) <= {number, number + 1}
            seen.append(await ask())
        return seen

    assert ledger.wait(meanwhile()) == list(range(1, 11))


@given(span=spans, fine=st.integers(-DAYS, 1), days=st.integers(0, 2))
def test_pieces_tile_their_span(span: Span, fine: int, days: int) -> None:
    first = MIDNIGHT + fine * MICROS_PER_DAY
    pieces = pieces_of(span, Span(first, first + days * MICROS_PER_DAY))
    assert (pieces[0].starts_at, pieces[-1].ends_at) == span
    for piece, following in pairwise(pieces):
        assert piece.ends_at == following.starts_at
    for starts_at, ends_at in pieces:
        assert starts_at < ends_at
        assert starts_at // MICROS_PER_DAY == (ends_at - 1) // MICROS_PER_DAY


def test_a_month_of_the_future_is_cut_into_days() -> None:
    pieces = pieces_of(
        Span(MIDNIGHT, MIDNIGHT + 31 * MICROS_PER_DAY), Span(MIDNIGHT, MIDNIGHT + MICROS_PER_DAY)
    )
    assert len(pieces) == 24 + 30


def test_sums_that_are_let_go_for_want_of_room_are_read_anew(ledger: WrittenLedger) -> None:
    sums = SpanSums(Told.BY_AGENT, kept_max=1, pieces_max=2)
    orgs = [ledger.new_org() for _ in range(3)]
    span = Span(MIDNIGHT - DAYS * MICROS_PER_DAY, MIDNIGHT + MICROS_PER_DAY)
    for org in orgs:
        ledger.record(org, [call(MIDNIGHT - n * MICROS_PER_DAY) for n in range(DAYS)])
    for _ in range(2):
        for org in orgs:
            (uses,) = asked(ledger, org, sums, [span], MIDNIGHT)
            assert [use.events for use in uses.values()] == [DAYS]
        ledger.record(orgs[0], [call(MIDNIGHT)])
        (uses,) = asked(ledger, orgs[0], sums, [span], MIDNIGHT)
        assert [use.events for use in uses.values()] == [DAYS + 1]
        orgs = orgs[1:]


def test_a_snapshot_older_than_the_one_before_is_answered_as_it_is(ledger: WrittenLedger) -> None:
    org, sums, span = ledger.new_org(), SpanSums(Told.IN_ALL), Span(MIDNIGHT, MIDNIGHT + MICROS_PER_DAY)
    ledger.record(org, [call(MIDNIGHT)])

    async def read() -> list[int]:
        loop = asyncio.get_running_loop()

        async def record_and_ask() -> int:
            await ledger.write(org, [call(MIDNIGHT)])
            uses = await ledger.readers.run_short(org, lambda c: sums.used(c, org, [span], MIDNIGHT))
            return uses[0][0][0]

        def around(old: Connection) -> list[int]:
            assert old.execute("SELECT count(*) FROM batch WHERE org = ?", (org,)).fetchone()[0] == 1
            later = ledger.database.meanwhile(record_and_ask(), loop)
            return [later, sums.used(old, org, [span], MIDNIGHT)[0][0][0]]

        return await ledger.readers.run(org, around)

    assert ledger.wait(read()) == [2, 1]
    assert asked(ledger, org, sums, [span], MIDNIGHT)[0][0].events == 2
