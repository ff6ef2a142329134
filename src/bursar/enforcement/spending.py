"""What a batch's spend does to budgets, inside the batch's own transaction.

    process_batch → bound (holds lend names and keys) → spent (settle, post, say who is stopped)

An event that names a hold settles it; any other is spend that happened without asking, recorded
whatever the limit and counted as unheld. Whether a sender is stopped is found out before the
batch counts, so the batch that crosses a limit still passes and the next one does not.

Implements `ingestion.spending.Spending`. Where an organisation has neither budgets, gates nor
holds in the batch, nothing is read but one row.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from bursar.budgets.amounts import amounts_of
from bursar.budgets.authorise import places_of
from bursar.budgets.batch import (
    NOTHING_SEEN,
    NOTHING_SETTLED,
    AgentSeen,
    Bound,
    Corrected,
    Effects,
    Priced,
    Seen,
    SettledAnswer,
    Settlements,
    Stop,
)
from bursar.budgets.book import Book, Notice, Occasion
from bursar.budgets.budget import ScopeKind
from bursar.budgets.clock import Now
from bursar.budgets.hold import Hold, HoldKind, HoldResolved
from bursar.budgets.matching import Call
from bursar.budgets.ports import SpendingUnit
from bursar.budgets.settlement import Spend
from bursar.budgets.standing import Standing, standing_of, tightest
from bursar.budgets.window import reaches
from bursar.core.errors import AppError, NotFound
from bursar.core.ids import Org, new_id
from bursar.core.usage import HOLDS_KEY, NO_TEXT, Subject, UsageEvent
from bursar.enforcement.batch_questions import Look, LookBack, Repeat, SettleEvent, guarded
from bursar.enforcement.commits import loaded, written
from bursar.enforcement.indexes import Indexes
from bursar.enforcement.questions import Correct, Post, Question, Scene

_ID_BYTES = 16
_VERSION_AT = 6
_VERSION = 7


UNHELD_LEARNED_MAX = 64
"""Calls without a hold that one batch teaches estimates: a sample tells a quantile as well."""


class Learner(Protocol):
    """What estimates learn from (`sketches.Sketches`)."""

    def learn(self, org: Org, agent: str, model: str, output_tokens: int, *, has_overrun: bool) -> None:
        """Take in what one call really brought."""
        ...


class Spending:
    """Counts the spend of all organisations of one process.

    Args:
        indexes: The budgets as the process keeps them.
        now: `DecisionClock.read` of both clocks.
        learner: Hears the real outputs.
    """

    def __init__(self, indexes: Indexes, now: Callable[[], Now], learner: Learner) -> None:
        self._indexes = indexes
        self._now = now
        self._learner = learner

    async def bound(self, unit: SpendingUnit, events: Sequence[UsageEvent]) -> Bound:
        """Give events that name a hold its names and key; say which may not be recorded.

        An unknown hold refuses only an event that has no names of its own: any other is money
        that was spent, and counts without a hold. What an event added to windows is found by its key
        and what a hold added by its id, so no event keeps a key that is some hold's id.
        """
        named = [place for place, event in enumerate(events) if event.hold is not None]
        book = Book({})
        if named:
            await unit.budgets.load_holds(book, [events[place].hold or b"" for place in named], [])
        keys = [event.key for event in events] + [hold.key for hold in book.holds.values()]
        taken = await unit.budgets.holds_among([key for key in keys if _may_name_hold(key)])
        if not (named or taken):
            return Bound(events)
        bound = [_with_own_key(event, taken) for event in events]
        refused: dict[int, AppError] = {}
        settling: dict[bytes, bytes] = {}
        for place in named:
            event = bound[place]
            hold = _own_hold(book, event)
            if hold is None and not (event.subject.agent and event.subject.model):
                refused[place] = NotFound("there is no such hold; nothing was recorded", field="hold_id")
                continue
            bound[place] = event = _with_own_key(_lent(event, hold), taken)
            if hold is not None and hold.kind is HoldKind.CALL:
                key = hold.settle_key or settling.setdefault(hold.id, event.key)
                if key != event.key:
                    refused[place] = HoldResolved(hold)
                    _tell_difference(book, hold, event)
        if book.notices:
            await self._indexes.of(unit.org, unit.budgets)  # tells the clock by which time others decided
            await written(unit.budgets, book, self._now().at)
        return Bound(bound, refused)

    async def spent(
        self, unit: SpendingUnit, events: Sequence[UsageEvent], fresh: Iterable[Priced]
    ) -> Effects:
        """Count what is fresh: settle holds, post the rest; say how the senders stand.

        Raises:
            AmountOverflow: A window cannot count so much; nothing of the batch may stand.
        """
        index = await self._indexes.of(unit.org, unit.budgets)
        has_holds = any(event.hold is not None for event in events)
        if not (index.terms or has_holds or await unit.budgets.has_gates()):
            return Effects(NOTHING_SETTLED, NOTHING_SEEN)
        now = self._now()
        calls = _calls(events)
        priced = list(fresh)
        questions = [_question(one) for one in priced]
        repeats = _repeats(events, priced) if has_holds else []
        looks: list[Question[object]] = [Look(call=call) for own in calls.values() for call in own]
        looks += [LookBack(ask.id, one=ask.one) for ask in questions if isinstance(ask, SettleEvent)]
        everything: list[Question[object]] = [*questions, *(ask for _, ask in repeats), *looks]
        scene = await loaded(unit.budgets, index, everything, now)
        if scene.active is not index:
            await self._indexes.keep(unit.org, unit.budgets, scene.active)
        stops = {agent: _stop_of(scene, own) for agent, own in calls.items()}
        organisation = _organisation_stop(scene, calls.values())
        answers = [question.decide(scene) for question in questions]
        settled = {one.position: answer for one, answer in zip(priced, answers, strict=True) if answer}
        settled.update((place, answer) for place, ask in repeats if (answer := ask.decide(scene)))
        await written(unit.budgets, scene.book, now.at)
        self._learn(unit.org, priced, settled)
        agents = {agent: AgentSeen(stops[agent], _tightest(scene, own)) for agent, own in calls.items()}
        return Effects(settled, Seen(organisation, agents))

    async def corrected(self, unit: SpendingUnit, corrections: Sequence[Corrected]) -> None:
        """Replace what events counted as, in the windows they were posted to.

        Raises:
            AmountOverflow: A window cannot count so much.
        """
        index = await self._indexes.of(unit.org, unit.budgets)
        if not index.terms:
            return
        questions = [
            Correct(source, one.old, one.new)
            for one in corrections
            if one.old != one.new
            for source in (one.key, one.hold)
            if source is not None
        ]
        now = self._now()
        scene = await loaded(unit.budgets, index, questions, now)
        for question in questions:
            question.decide(scene)
        await written(unit.budgets, scene.book, now.at)

    def _learn(self, org: Org, priced: Sequence[Priced], settled: Settlements) -> None:
        """Learn from each call that settled a hold, and from some of the others of a large batch."""
        every = len(priced) // UNHELD_LEARNED_MAX + 1
        for position, event, _ in priced:
            if event.hold is None and position % every:
                continue
            output = event.output_tokens + event.reasoning_tokens
            if output:
                answer = settled.get(position)
                bound = answer.hold.max_output_tokens if isinstance(answer, SettledAnswer) else None
                has_overrun = bound is not None and output > bound
                subject = event.subject
                self._learner.learn(org, subject.agent, subject.model, output, has_overrun=has_overrun)


def _own_hold(book: Book, event: UsageEvent) -> Hold | None:
    """Return the hold that an event names, unless that was made for somebody else."""
    hold = book.holds.get(event.hold or b"")
    own = event.subject
    is_own = (
        hold is not None
        and own.agent in {NO_TEXT, hold.call.agent}
        and own.project in {NO_TEXT, hold.call.project}
    )
    return hold if is_own else None


def _may_name_hold(key: bytes) -> bool:
    """Tell whether a key has the form of our ids, which are UUIDs of version 7."""
    return len(key) == _ID_BYTES and key[_VERSION_AT] >> 4 == _VERSION


def _with_own_key(event: UsageEvent, taken: Collection[bytes]) -> UsageEvent:
    """Return the event with a key that follows from its own, where that is a hold's id."""
    if event.key not in taken:
        return event
    own = blake2b(event.key, digest_size=_ID_BYTES, person=b"event").digest()
    return msgspec.structs.replace(event, key=own)


def _lent(event: UsageEvent, hold: Hold | None) -> UsageEvent:
    """Return the event with the names and the key of its hold where it has none of its own."""
    if hold is None:
        key = new_id() if event.key == HOLDS_KEY else event.key
        return msgspec.structs.replace(event, hold=None, key=key)
    call, own = hold.call, event.subject
    subject = own._replace(
        agent=call.agent,
        project=call.project,
        provider=own.provider or call.provider,
        model=own.model or call.model,
        user=own.user or call.user,
        api_key=own.api_key or call.api_key,
    )
    key = hold.key if event.key == HOLDS_KEY else event.key
    return msgspec.structs.replace(event, key=key, subject=subject, run=event.run or call.run)


def _tell_difference(book: Book, hold: Hold, event: UsageEvent) -> None:
    """Have an operator hear of a second settlement that says something else than the first."""
    settled = hold.settled
    if settled is None:
        return
    amounts = amounts_of(event, event.reported_nusd)
    is_same = amounts.cost_nusd in {None, settled.cost_nusd} and amounts.tokens_total in {
        0,
        settled.tokens_total,
    }
    if not is_same:
        occasion = Occasion.SETTLED_DIFFERENTLY
        cost = amounts.cost_nusd or 0
        book.tell(Notice(occasion, None, cost, source=hold.id))


def _question(one: Priced) -> SettleEvent | Post:
    event = one.event
    if event.hold is not None:
        return SettleEvent(event.hold, one=one)
    amounts = guarded(event, amounts_of(event, one.cost_nusd))
    return Post(Spend(event.key, call_of(event), amounts, event.occurred_at))


def _repeats(events: Sequence[UsageEvent], priced: Sequence[Priced]) -> list[tuple[int, Repeat]]:
    fresh = {one.position for one in priced}
    return [(place, Repeat(e.hold)) for place, e in enumerate(events) if e.hold and place not in fresh]


def call_of(event: UsageEvent) -> Call:
    """Return the names of an event as budgets compare them."""
    agent, provider, model, project, _, user, api_key = event.subject
    tags: tuple[tuple[str, str], ...] = ()
    if event.attributes and isinstance(said := event.attributes.get("tags"), Mapping):
        tags = tuple(sorted((str(name), text) for name, text in said.items() if isinstance(text, str)))
    return Call(agent, project, user, api_key, provider, model, event.run, tags)


def _calls(events: Sequence[UsageEvent]) -> dict[str, list[Call]]:
    """Return the different calls of each agent that did not ask before, without their runs."""
    found: dict[str, dict[Subject, Call]] = {}
    last: Subject | None = None
    for event in events:
        subject = event.subject
        if subject is last or event.hold is not None:
            continue
        last = subject
        own = found.setdefault(subject.agent, {})
        if subject not in own:
            own[subject] = call_of(event)._replace(run=NO_TEXT)
    return {agent: list(own.values()) for agent, own in found.items()}


def _stop_of(scene: Scene, calls: Iterable[Call]) -> Stop | None:
    """Return what stops an agent: a gate before one of its calls, or a budget of its own."""
    for call in calls:
        gate = scene.book.gates.stopping(call)
        if gate is not None and gate.stop is not None:
            stop = gate.stop
            detail = stop.reason or f"{stop.state.value} by {stop.owner.value}"
            return Stop(stop.state.value, detail)
        found = _used_up(scene, call, ScopeKind.AGENT)
        if found is not None:
            return found
    return None


def _organisation_stop(scene: Scene, senders: Iterable[Iterable[Call]]) -> Stop | None:
    """Return the organisation's own budget that is used up."""
    call = next((call for calls in senders for call in calls), None)
    return None if call is None else _used_up(scene, call, ScopeKind.ORGANISATION)


def _used_up(scene: Scene, call: Call, kind: ScopeKind) -> Stop | None:
    matched = scene.matching(call)
    for terms, window in places_of(scene.book, matched, NO_TEXT, scene.now):
        if terms.budget.scope.kind is not kind:
            continue
        is_spent = terms.is_hard and window.settled >= window.limit
        stop = terms.stop
        if is_spent or (stop is not None and reaches(window.settled, window.limit, stop.at_ppm)):
            name = terms.budget.name or "its budget"
            return Stop("budget", f"{name} is used up", terms.id, window.resets_at)
    return None


def _tightest(scene: Scene, calls: Iterable[Call]) -> Standing | None:
    standings = [
        one for call in calls for one in standing_of(scene.book, scene.matching(call), call, scene.now)
    ]
    return tightest(standings)
