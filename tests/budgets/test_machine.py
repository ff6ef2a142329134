"""Every invariant after every step: a state machine over the decisions, in an engine in memory.

The model knows nothing of windows' arithmetic: it matches by comparing names, keeps its
own list of what was spent, and recounts everything after each step. Ids of invariants (I1,
I6 to I13) are those of the ledger's protocol.
"""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memory_engine import HOUR, Engine, LeaseClient, cost
from msgspec.structs import replace

from bursar.budgets import gate
from bursar.budgets.amounts import NOTHING, Amounts, Metric
from bursar.budgets.authorise import authorise
from bursar.budgets.book import Occasion
from bursar.budgets.budget import Action, Budget, Mode, OnExpiry, Scope, Threshold, Unpriced, made_id
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.hold import Granted, Hold, HoldResolved, HoldState, Leg, Request
from bursar.budgets.incident import Decision, Resolution
from bursar.budgets.lease import Demand
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Refused, Stopped
from bursar.budgets.settlement import Outcome
from bursar.budgets.window import WindowKey, WindowState
from bursar.core.errors import Denied, IdempotencyConflict
from bursar.core.periods import Period

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
STEPS_MIN = 200_000 if IS_LONG else 10_000
STEPS_EACH = 50

AGENTS = ("a", "b")
calls = st.builds(
    lambda agent, model, run: Call(agent, model=model, run=run),
    st.sampled_from(AGENTS),
    st.sampled_from(["gpt-x", "opus"]),
    st.sampled_from(["", "r"]),
)
amounts = st.builds(
    lambda n, depth, fingerprint: cost(n, tokens=3 * n)._replace(depth=depth, fingerprint=fingerprint),
    st.integers(0, 12),
    st.sampled_from([0, 0, 1, 2, 9]),
    st.sampled_from([0, 0, 1, 2]),
)
small = st.integers(1, 4).map(lambda n: cost(n, tokens=3 * n))
limits = st.integers(5, 90)
thresholds = st.sampled_from(
    [
        (),
        (Threshold(800_000), Threshold(1_000_000)),
        (Threshold(500_000, Action.REFUSE),),
        (Threshold(900_000, Action.PAUSE), Threshold(1_000_000, Action.KILL)),
        (Threshold(500_000), Threshold(1_000_000, Action.KILL, latch=True)),
        (Threshold(700_000, Action.PAUSE, latch=True),),
    ]
)
DECISIONS = (Resolution.RAISED, Resolution.KEPT_STOPPED)
GAUGES = {Metric.LOOPS, Metric.DEPTH}
"""What these count depends on the window's calls; `test_guards` has a model of it."""
GUARDS = (Metric.CALLS, Metric.LOOPS, Metric.DEPTH)
MOVES = {
    HoldState.OPEN: {HoldState.SETTLED, HoldState.VOIDED, HoldState.EXPIRED, HoldState.SUSPENSE},
    HoldState.SUSPENSE: {HoldState.SETTLED_LATE, HoldState.VOIDED, HoldState.EXPIRED},
    HoldState.EXPIRED: {HoldState.SETTLED_LATE},
}
RANKS = {WindowState.OPEN: 0, WindowState.CLOSING: 1, WindowState.CLOSED: 2}


def is_within(budget: Budget, call: Call) -> bool:
    """The model's own matching: names alone, for the scopes that the machine makes."""
    scope = budget.scope
    return not budget.is_template and (
        scope.agent in {"", call.agent}
        and (not scope.model or call.model.startswith(scope.model.rstrip("*")))
        and (budget.period is not Period.RUN or bool(call.run))
    )


def amount_of(leg: Leg, used: Amounts) -> int:
    """What a settlement posts to a leg's window: a loop was counted when it was granted."""
    if leg.column >= Metric.DEPTH.column:
        return leg.amount
    return used[leg.column] or 0


class Machine(RuleBasedStateMachine):
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        self.holds: list[Hold] = []
        self.requests: dict[bytes, Request] = {}
        self.spent: Counter[bytes] = Counter()
        self.states: dict[bytes, HoldState] = {}
        self.ranks: dict[WindowKey, int] = {}
        self.stops: dict[str, set[Owner]] = {"": set(), **{agent: set() for agent in AGENTS}}
        self.posts: list[tuple[bytes, Call, Amounts, Amounts]] = []
        self.clients: list[LeaseClient] = []
        self.hard_ever: set[bytes] = set()
        self.heard = 0
        self.is_clean = True

    # --- budgets

    @initialize(
        period=st.sampled_from([Period.DAILY, *Period]),
        limit=limits,
        actions=thresholds,
        on_expiry=st.sampled_from(OnExpiry),
        guard=st.sampled_from(["", "", *AGENTS]),
    )
    def begin_with_one(
        self,
        period: Period,
        limit: int,
        actions: tuple[Threshold, ...],
        on_expiry: OnExpiry,
        guard: str,
    ) -> None:
        self.create_budget("", "", Metric.COST, period, limit, Mode.HARD, actions, on_expiry)
        if guard:
            latch = (Threshold(1_000_000, Action.PAUSE, latch=True),)
            self.create_budget(guard, "", Metric.LOOPS, Period.TOTAL, limit, Mode.HARD, latch, on_expiry)
        self.engine.advance(40 * HOUR)

    @precondition(lambda self: len(self.engine.budgets) < 6)
    @rule(
        agent=st.sampled_from(["", *AGENTS]),
        model=st.sampled_from(["", "gpt-*"]),
        metric=st.sampled_from([Metric.COST, Metric.COST, Metric.TOKENS_TOTAL, *GUARDS]),
        period=st.sampled_from(Period),
        limit=limits,
        mode=st.sampled_from([Mode.HARD, Mode.HARD, Mode.SOFT]),
        actions=thresholds,
        on_expiry=st.sampled_from(OnExpiry),
        is_template=st.sampled_from([False, False, False, True]),
    )
    def create_budget(  # noqa: PLR0917 - drawn by name
        self,
        agent: str,
        model: str,
        metric: Metric,
        period: Period,
        limit: int,
        mode: Mode,
        actions: tuple[Threshold, ...],
        on_expiry: OnExpiry,
        is_template: bool = False,
    ) -> None:
        budget = Budget(
            id=self.engine.number(),
            limit=limit if metric not in {Metric.LOOPS, Metric.DEPTH} else 1 + limit % 5,
            created_at=self.engine.now().at,
            scope=Scope(agent="" if is_template else agent, model=model),
            is_template=is_template,
            metric=metric,
            period=period,
            zone="Europe/Berlin",
            mode=mode,
            thresholds=actions,
            on_expiry=on_expiry,
            unpriced=Unpriced.ALLOW,
        )
        self.engine.create(budget)
        if budget.is_hard:
            self.hard_ever.add(budget.id)
            self.hard_ever.update(made_id(budget.id, name) for name in AGENTS)

    @precondition(lambda self: len(self.engine.budgets) > 1)
    @rule(data=st.data())
    def delete_budget(self, data: st.DataObject) -> None:
        self.engine.delete(data.draw(st.sampled_from(list(self.engine.budgets.values()))))

    @precondition(lambda self: self.engine.budgets)
    @rule(data=st.data(), limit=limits)
    def change_limit(self, data: st.DataObject, limit: int) -> None:
        self.is_clean = False
        budget_id = data.draw(st.sampled_from(list(self.engine.budgets)))
        windows = [w for w in self.engine.book.windows.values() if w.key.budget == budget_id]
        before = [(w.limit, w.limit + w.lowered) for w in windows]
        self.engine.change_limit(budget_id, limit)
        for window, (old, bound) in zip(windows, before, strict=True):
            if window.limit > old:  # a raise gives back what lowering took, and no more
                assert window.limit + window.lowered == max(bound, window.limit)

    @precondition(lambda self: self.engine.budgets)
    @rule(
        data=st.data(),
        zone=st.sampled_from(["Asia/Tokyo", "America/Santiago", "UTC"]),
        hours=st.sampled_from([0, 5, 25]),
        call=calls,
    )
    def move_zone(self, data: st.DataObject, zone: str, hours: int, call: Call) -> None:
        self.engine.move_zone(data.draw(st.sampled_from(list(self.engine.budgets))), zone)
        self.engine.advance(hours * HOUR)
        self.ask(call, cost(1, tokens=1))

    # --- holds

    @rule(call=calls, asked=amounts)
    def ask(self, call: Call, asked: Amounts) -> None:
        request = self.engine.request(asked, call)
        self.judge(request, self.engine.ask(request))

    @rule(agent=st.sampled_from(AGENTS), asked=small)
    def ask_for_little(self, agent: str, asked: Amounts) -> None:
        self.ask(Call(agent, model="opus"), asked)

    @rule(call=calls, fingerprint=st.sampled_from([1, 2]), has_asked=st.booleans())
    def call_again_and_again(self, call: Call, fingerprint: int, has_asked: bool) -> None:
        amounts = cost(1, tokens=3)._replace(fingerprint=fingerprint)
        for _ in range(3):
            if has_asked:
                self.ask(call, amounts)
                self.hear()
            else:
                self.post_one(call, amounts, 0)

    @rule(call=calls, wanted=st.integers(2, 30))
    def ask_for_less_if_need_be(self, call: Call, wanted: int) -> None:
        request = Request(
            hold_id=self.engine.number(),
            key=self.engine.number(),
            digest=b"d",
            call=call,
            amounts=cost(wanted, tokens=wanted),
            max_output_tokens=wanted,
            sized=lambda tokens: cost(tokens, tokens=tokens),
            allow_smaller=True,
        )
        answer = self.engine.ask(request)
        if isinstance(answer, Granted):
            tokens = answer.hold.max_output_tokens
            assert tokens is not None
            assert answer.hold.amounts == cost(tokens, tokens=tokens)
            assert tokens <= wanted
        self.judge(request, answer)

    def judge(self, request: Request, answer: Granted | Refused | Stopped) -> None:
        call = request.call
        self.check_templates(call)
        stopped = bool(self.stops[""] or self.stops[call.agent])
        if isinstance(answer, Stopped):
            assert answer.owner is Owner.BUDGET or stopped
            return
        assert not stopped  # I12
        if isinstance(answer, Refused):
            budget = self.engine.budgets[answer.window.budget]
            asked = answer.asked or 0
            room = budget.limit_of_grants(answer.limit)
            assert answer.settled + answer.held + asked > room  # I8: none is refused while there is room
            return
        hold = answer.hold
        binding = [b for b in self.engine.budgets.values() if b.is_binding and is_within(b, call)]
        assert {leg.window.budget for leg in hold.legs} == {b.id for b in binding}  # I9
        self.check_grant(hold)
        self.holds.append(hold)
        self.requests[hold.id] = request

    def check_templates(self, call: Call) -> None:
        """Whoever fits a template has its budget, once made, unless it was deleted."""
        for template in list(self.engine.budgets.values()):
            names = Call(call.agent, model=call.model)
            if template.is_template and is_within(
                replace(template, is_template=False, period=Period.DAILY), names
            ):
                own = made_id(template.id, call.agent)
                assert (own in self.engine.budgets) is (own not in self.engine.deleted)

    def check_grant(self, hold: Hold) -> None:
        at = self.engine.now()
        for leg in hold.legs:
            budget = self.engine.budgets[leg.window.budget]
            window = self.engine.book.windows[leg.window]
            assert window.starts_at <= at.at < window.ends_at or at.doubted is not None
            if budget.metric is Metric.LOOPS:
                assert leg.held in {0, 1}
            else:
                assert leg.held == (0 if budget.metric is Metric.DEPTH else hold.amounts[leg.column])
            if budget.metric is Metric.DEPTH and budget.refuses_at_ppm:
                assert hold.amounts.depth <= window.limit  # as nothing was ever added up
            if budget.is_hard and (leg.held or budget.metric is not Metric.COST):
                assert window.settled + window.held <= window.limit  # I6
            cap = budget.limit_of_grants(window.limit)
            assert cap is None or not leg.held or window.settled + window.held <= cap

    @rule(call=calls, asked=amounts, is_committed=st.booleans())
    def crash_while_asking(self, call: Call, asked: Amounts, is_committed: bool) -> None:
        """The server dies before or after the commit, always before the answer."""
        engine = self.engine
        request = engine.request(asked, call)
        engine.now()
        if is_committed:
            answer = engine.ask(request)
            self.hear()
        else:
            authorise(engine.book, request, engine.index.matching(call), engine.now())
        engine.restart()
        self.holds = [engine.book.holds[hold.id] for hold in self.holds]
        repeated = engine.ask(request)
        if is_committed and isinstance(answer, Granted):
            assert repeated == Granted(engine.book.holds[answer.hold.id], is_repeat=True)
            self.holds.append(engine.book.holds[answer.hold.id])
            self.requests[answer.hold.id] = request
        else:
            self.judge(request, repeated)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), is_other=st.booleans())
    def ask_again(self, data: st.DataObject, is_other: bool) -> None:
        hold_id = data.draw(st.sampled_from(list(self.requests)))
        request = self.requests[hold_id]
        if is_other:
            other = self.engine.request(request.amounts, request.call, key=request.key, digest=b"other")
            with pytest.raises(IdempotencyConflict):
                self.engine.ask(other)
        else:
            again = self.engine.ask(request)
            assert isinstance(again, Granted)
            assert again.is_repeat
            assert again.hold.id == hold_id

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.sampled_from([0, 1, 2, 2, 3]))
    def settle(self, data: st.DataObject, share: int) -> None:
        """With nothing, half, all, or half as much again as was held."""
        self.settle_one(data.draw(st.sampled_from(self.holds)), share)

    def settle_one(self, hold: Hold, share: int) -> None:
        held = hold.amounts
        used = cost((held.cost_nusd or 0) * share // 2, tokens=held.tokens_total * share // 2)
        before, settled = hold.state, hold.settled
        self.is_clean &= share <= 2 and before is HoldState.OPEN
        excesses = [] if settled is not None else self.excesses(hold, used)
        done = self.engine.settle(hold, used)
        for key, overrun, unheld in excesses:  # I7, to the unit
            window = self.engine.book.windows[key]
            assert (window.overrun, window.unheld) == (overrun, unheld)
        if settled is not None:
            assert done.outcome is (Outcome.REPEATED if used == settled else Outcome.CONFLICT)
            assert hold.settled == settled
            return
        expected = {HoldState.OPEN: Outcome.SETTLED, HoldState.VOIDED: Outcome.UNHELD}
        assert done.outcome is expected.get(before, Outcome.LATE)
        own = Counter(leg.window.budget for leg in hold.legs)
        self.book_spend(hold.call, used, hold.created_at, own)

    def excesses(self, hold: Hold, used: Amounts) -> list[tuple[WindowKey, int, int]]:
        """What a settlement must leave in `overrun` and `unheld` of each of the hold's windows."""
        found = []
        for leg in hold.legs:
            window = self.engine.book.windows[leg.window]
            spent = amount_of(leg, used)
            if hold.state is HoldState.VOIDED:
                found.append((leg.window, window.overrun, window.unheld + spent))
                continue
            room = max(0, window.limit - window.settled - window.held)
            covered = leg.amount if leg.is_open else min(leg.amount, room)
            found.append((leg.window, window.overrun + max(0, spent - covered), window.unheld))
        return found

    @precondition(lambda self: self.unsettled(HoldState.OPEN))
    @rule(data=st.data(), share=st.sampled_from([1, 2, 2, 3]))
    def settle_in_time(self, data: st.DataObject, share: int) -> None:
        self.settle_one(data.draw(st.sampled_from(self.unsettled(HoldState.OPEN))), share)

    @precondition(lambda self: self.unsettled(HoldState.EXPIRED, HoldState.SUSPENSE, HoldState.VOIDED))
    @rule(data=st.data(), share=st.sampled_from([1, 2, 2, 3]))
    def settle_too_late(self, data: st.DataObject, share: int) -> None:
        late = self.unsettled(HoldState.EXPIRED, HoldState.SUSPENSE, HoldState.VOIDED)
        self.settle_one(data.draw(st.sampled_from(late)), share)

    def unsettled(self, *states: HoldState) -> list[Hold]:
        return [hold for hold in self.holds if hold.settled is None and hold.state in states]

    def book_spend(self, call: Call, used: Amounts, at: int, own: Counter[bytes] | None) -> None:
        """The model's own book: every budget that counts the call gets it, once a leg.

        `own` are the legs of the hold by budget, None for spend that came without one. A
        budget that would have had a leg was made after a hold of the same instant.
        """
        columns = {b.id: b.metric.column for b in self.engine.budgets.values() if b.metric not in GAUGES}
        for budget_id, legs in (own or {}).items():
            if budget_id in columns:
                self.spent[budget_id] += legs * (used[columns[budget_id]] or 0)
        for budget in self.engine.budgets.values():
            is_older = budget.created_at < at or (
                budget.created_at == at and (own is None or not budget.is_binding)
            )
            is_other = budget.id not in (own or ()) and budget.metric not in GAUGES
            if is_other and is_within(budget, call) and is_older:
                self.spent[budget.id] += used[budget.metric.column] or 0

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), by_operator=st.booleans())
    def void(self, data: st.DataObject, by_operator: bool) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        may = {HoldState.OPEN, HoldState.VOIDED} | ({HoldState.SUSPENSE} if by_operator else set())
        if hold.state in may:
            self.engine.void(hold, by_operator=by_operator)
        else:
            with pytest.raises(HoldResolved):
                self.engine.void(hold, by_operator=by_operator)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        if hold.state is HoldState.OPEN:
            expires_at = hold.expires_at
            self.engine.extend(hold, HOUR)
            assert hold.expires_at >= expires_at

    @rule(call=calls, used=amounts, hours_ago=st.sampled_from([0, 0, 0, 1, 30, -1]))
    def spend_without_a_hold(self, call: Call, used: Amounts, hours_ago: int) -> None:
        self.post_one(call, used, hours_ago)

    def post_one(self, call: Call, used: Amounts, hours_ago: int) -> None:
        spend = self.engine.post(used, call, at=self.engine.wall - hours_ago * HOUR)
        self.is_clean = False
        at = min(spend.occurred_at, self.engine.now().at)
        self.book_spend(call, used, at, None)
        self.posts.append((spend.key, call, used, used))

    @precondition(lambda self: self.posts)
    @rule(data=st.data(), new=st.one_of(amounts, st.just(NOTHING)))
    def correct(self, data: st.DataObject, new: Amounts) -> None:
        place = data.draw(st.integers(0, len(self.posts) - 1))
        key, call, first, old = self.posts[place]
        own = {k for p in self.engine.postings if p.source == key for k, _ in p.parts}
        posted = {k.budget for k in own}
        before = {k: (self.engine.book.windows[k].settled, self.engine.book.windows[k].unheld) for k in own}
        self.engine.correct(key, old, new)
        self.is_clean = False
        for k, (settled, unheld) in before.items():  # I7: what a correction adds, nobody held
            window = self.engine.book.windows[k]
            assert window.unheld - unheld == max(0, window.settled - settled)
        for budget in self.engine.budgets.values():
            if budget.id in posted and budget.metric not in GAUGES:
                column = budget.metric.column
                self.spent[budget.id] += (new[column] or 0) - (old[column] or 0)
        self.posts[place] = (key, call, first, new)

    # --- people's decisions

    @precondition(lambda self: self.open_incidents())
    @rule(
        data=st.data(),
        more=st.integers(1, 40),
        resolution=st.sampled_from([Resolution.RAISED_UNTIL, Resolution.RAISED_UNTIL, *DECISIONS]),
        hours=st.sampled_from([1, 2, 30]),
    )
    def decide_an_incident(self, data: st.DataObject, more: int, resolution: Resolution, hours: int) -> None:
        place = data.draw(st.sampled_from(self.open_incidents()))
        window = self.engine.book.windows[self.engine.incidents[place].window]
        limit = max(window.limit, window.settled) + more
        until = self.engine.now().at + hours * HOUR if resolution is Resolution.RAISED_UNTIL else None
        self.is_clean = False
        self.engine.resolve(place, Decision(resolution, "ops", "why", limit, until))
        assert window.limit == (limit if resolution is not Resolution.KEPT_STOPPED else window.limit)

    @precondition(lambda self: any(one.until and not one.ended_at for one in self.engine.incidents))
    @rule()
    def let_raises_end(self) -> None:
        self.engine.advance(2 * HOUR)
        self.run_jobs()

    def open_incidents(self) -> list[int]:
        """Places of incidents that a person may still decide: their windows are not over."""
        now = self.engine.now().trusted
        return [
            place
            for place, one in enumerate(self.engine.incidents)
            if one.resolution is Resolution.OPEN and not self.engine.book.windows[one.window].is_past(now)
        ]

    # --- time

    @rule(minutes=st.sampled_from([1, 4, 16, 90, 60 * 7, 60 * 25]))
    def advance(self, minutes: int) -> None:
        self.engine.advance(minutes * HOUR // 60)

    @rule(hours=st.sampled_from([-30, -1, 1, 30]))
    def step_the_clock(self, hours: int) -> None:
        before = self.engine.now()
        self.engine.wall += hours * HOUR
        assert self.engine.now().at >= before.at  # I11: time never goes back
        if hours < 0 and before.doubted is None:
            assert self.engine.now().doubted is None

    @rule()
    def believe_the_clock(self) -> None:
        self.engine.clock.confirm()

    @precondition(lambda self: self.unsettled(HoldState.OPEN) or self.clients)
    @rule()
    def let_holds_lapse(self) -> None:
        self.engine.advance(16 * HOUR // 60)
        self.run_jobs()

    @rule()
    def run_jobs(self) -> None:
        self.engine.run_jobs()
        for one in self.engine.incidents:
            is_over = one.until is not None and one.until <= self.engine.now().trusted
            assert (one.ended_at is not None) is is_over
        now = self.engine.now().trusted
        assert not [
            h for h in self.engine.book.holds.values() if h.state is HoldState.OPEN and h.expires_at <= now
        ]

    # --- stops

    @precondition(lambda self: sum(map(len, self.stops.values())) < 2)
    @rule(
        name=st.sampled_from(["", *AGENTS]),
        owner=st.sampled_from([Owner.MANUAL, Owner.GUARD]),
        state=st.sampled_from([GateState.PAUSED, GateState.KILLED]),
    )
    def stop(self, name: str, owner: Owner, state: GateState) -> None:
        gate.stop(self.engine.book.gates, self.gate(name), Stop(owner, state, self.engine.wall, "why"))
        self.engine.flush_gates()
        self.stops[name].add(owner)

    @precondition(lambda self: any(self.stops.values()))
    @rule()
    def resume_everything(self) -> None:
        for name in self.stops:
            self.resume(name, Owner.MANUAL)

    @precondition(lambda self: any(self.stops.values()))
    @rule(name=st.sampled_from(["", *AGENTS]), by=st.sampled_from([Owner.MANUAL, Owner.MANUAL, Owner.GUARD]))
    def resume(self, name: str, by: Owner) -> None:
        if by is Owner.GUARD and self.stops[name] == {Owner.MANUAL}:
            with pytest.raises(Denied):
                gate.resume(self.engine.book.gates, self.gate(name), by)
            return
        gate.resume(self.engine.book.gates, self.gate(name), by)
        self.engine.flush_gates()
        self.stops[name] -= {by} if by is Owner.GUARD else set(Owner)

    @invariant()
    def hear(self) -> None:
        """Learn whom a latch has stopped; the next call of theirs must not be granted."""
        notices = self.engine.notices
        for notice in notices[self.heard :]:
            if notice.occasion is Occasion.GUARD_TRIPPED:
                assert notice.agent in AGENTS
                self.stops[notice.agent].add(Owner.GUARD)
        self.heard = len(notices)

    def gate(self, name: str) -> GateKey:
        return GateKey(GateKind.AGENT if name else GateKind.ORGANISATION, name)

    # --- leases

    @rule(
        call=calls,
        worst=st.integers(0, 2),
        rate=st.integers(0, 3),
        others=st.integers(0, 2),
        made=st.integers(0, 4),
    )
    def lease(self, call: Call, worst: int, rate: int, others: int, made: int) -> None:
        sent_at = self.engine.monotonic
        demand = Demand(cost(worst, tokens=worst), cost(rate, tokens=rate), 1 + others)
        answer = self.engine.acquire(demand, call)
        if isinstance(answer, Granted):
            assert not self.stops[""]
            assert not self.stops[call.agent]
            self.check_grant(answer.hold)
            client = LeaseClient(self.engine, answer.hold, sent_at)
            self.clients.append(client)
            for _ in range(made):
                client.spend(cost(1, tokens=1), cost(1, tokens=1))

    @precondition(lambda self: any(map(self.may_spend, self.clients)))
    @rule(data=st.data(), worst=st.integers(1, 2), calls_made=st.integers(1, 4))
    def spend_from_a_lease(self, data: st.DataObject, worst: int, calls_made: int) -> None:
        client = data.draw(st.sampled_from(list(filter(self.may_spend, self.clients))))
        for _ in range(calls_made):
            client.spend(cost(worst, tokens=worst), cost(worst, tokens=worst))
        assert all(rest >= 0 for rest in client.rest.values())

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), is_final=st.booleans(), gives=st.integers(0, 3), is_lost=st.booleans())
    def report(self, data: st.DataObject, is_final: bool, gives: int, is_lost: bool) -> None:
        self.report_one(
            data.draw(st.sampled_from(self.clients)), is_final=is_final, gives=gives, is_lost=is_lost
        )

    def report_one(self, client: LeaseClient, *, is_final: bool, gives: int, is_lost: bool) -> None:
        hold = self.engine.book.holds[client.id]
        own = Counter(leg.window.budget for leg in hold.legs)
        acknowledged = client.acknowledged
        fresh = [entry for entry in client.journal if entry.key not in self.engine.drawn]
        self.is_clean &= not fresh or hold.state in {HoldState.OPEN, HoldState.SUSPENSE}
        demand = None if is_final else Demand(cost(1, tokens=1), cost(1, tokens=1))
        answer = client.heartbeat(demand, is_final=is_final, gives=gives)
        for entry in fresh:
            self.book_spend(hold.call, entry.amounts, hold.created_at, own)
        if answer.is_renewed:
            assert not self.stops[""]
            assert not self.stops[hold.call.agent]
        if is_lost:  # the answer never came: the client will send the same again
            client.acknowledged = acknowledged
            client.is_stopped = client.is_stopped or is_final

    def may_spend(self, client: LeaseClient) -> bool:
        return not client.is_stopped and self.engine.monotonic < client.until

    @precondition(lambda self: any(len(c.journal) > c.acknowledged for c in self.clients))
    @rule(data=st.data(), is_lost=st.booleans())
    def report_what_was_spent(self, data: st.DataObject, is_lost: bool) -> None:
        behind = [client for client in self.clients if len(client.journal) > client.acknowledged]
        self.report_one(data.draw(st.sampled_from(behind)), is_final=False, gives=0, is_lost=is_lost)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def crash_a_client(self, data: st.DataObject) -> None:
        self.clients.remove(data.draw(st.sampled_from(self.clients)))

    # --- what must hold

    @invariant()
    def counts_are_explained(self) -> None:  # I1
        Machine.steps += 1
        engine = self.engine
        posted, legs = engine.posted(), engine.legs()
        for key, window in engine.book.windows.items():
            own = legs.get(key, [])
            assert window.settled == posted[key]
            assert window.held == sum(leg.held for leg in own)
            assert window.open_legs == sum(leg.is_open for leg in own)
            assert min(window.settled, window.held, window.overrun, window.unheld, window.lowered) >= 0
        totals: Counter[bytes] = Counter()
        for key, window in engine.book.windows.items():
            totals[key.budget] += window.settled
        plain = [b.id for b in engine.budgets.values() if b.metric not in GAUGES]
        assert {b: totals[b] for b in plain} == {b: self.spent[b] for b in plain}
        engine.check_stored()

    @invariant()
    def excess_is_accounted_for(self) -> None:  # I7
        for key, window in self.engine.book.windows.items():
            if key.budget in self.hard_ever:
                listed = window.overrun + window.unheld + window.lowered
                assert window.settled + window.held <= window.limit + listed
                assert not (listed and self.is_clean)

    @invariant()
    def a_hold_ends_once(self) -> None:  # I10
        for hold in self.engine.book.holds.values():
            before = self.states.get(hold.id, HoldState.OPEN)
            assert hold.state is before or hold.state in MOVES.get(before, set())
            self.states[hold.id] = hold.state
            is_over = hold.state not in {HoldState.OPEN, HoldState.SUSPENSE}
            assert (hold.ended_at is not None) is is_over
            if is_over:
                assert not any(leg.held or leg.is_open for leg in hold.legs)

    @invariant()
    def windows_never_overlap_nor_reopen(self) -> None:  # I11
        for track in self.engine.book.tracks.values():
            for earlier, later in zip(track.windows, track.windows[1:], strict=False):
                assert earlier.starts_at < earlier.ends_at <= later.starts_at
        for key, window in self.engine.book.windows.items():
            rank = RANKS[window.state]
            assert rank >= self.ranks.get(key, 0)
            self.ranks[key] = rank
            assert window.state is not WindowState.CLOSED or not window.open_legs

    @invariant()
    def an_alert_is_raised_once(self) -> None:  # I13
        for occasion in ("budget.threshold", "guard.tripped"):
            heard = Counter((n.window, n.share_ppm) for n in self.engine.heard(occasion))
            assert all(count == 1 for count in heard.values())


@pytest.mark.long
def test_every_invariant_holds_after_every_step() -> None:
    Machine.steps = 0
    examples = STEPS_MIN // STEPS_EACH * 13 // 10
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.steps >= STEPS_MIN
