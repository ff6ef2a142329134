"""Leases: spent locally, reported later, and never above the limit."""

import pytest
from memory_engine import CALL, HOUR, Engine, LeaseClient, cost, numbered

from bursar.budgets import gate
from bursar.budgets.budget import Action, Budget, Mode, OnExpiry, Threshold, terms_of
from bursar.budgets.gate import GateKey, GateKind, GateState, Owner, Stop
from bursar.budgets.hold import Granted, Hold, HoldState
from bursar.budgets.lease import (
    Demand,
    LeaseRequest,
    LeaseShared,
    acquire,
    slice_of,
    spend_from_lease,
)
from bursar.budgets.matching import Call
from bursar.budgets.refusal import Reason, Refused, Stopped
from bursar.budgets.settlement import Outcome, Spend
from bursar.budgets.window import Window, WindowKey
from bursar.core.errors import IdempotencyConflict, InvalidInput

ID = numbered(1_000)
DEMAND = Demand(cost(10), cost(1), clients=1)


def engine_of(limit: int = 1_000, **fields: object) -> Engine:
    return Engine(Budget(**{"id": ID, "limit": limit, "created_at": 1, **fields}))  # type: ignore[arg-type]


def leased(engine: Engine, demand: Demand = DEMAND) -> LeaseClient:
    answer = engine.acquire(demand)
    assert isinstance(answer, Granted), answer
    return LeaseClient(engine, answer.hold, engine.monotonic)


def hold_of(client: LeaseClient) -> Hold:
    return client.engine.book.holds[client.id]


@pytest.mark.parametrize(
    ("settled", "demand", "size"),
    [
        (0, Demand(cost(10), cost(1), 1), 30),  # twice what fifteen seconds need
        (0, Demand(cost(10), cost(0), 1), 10),  # one worst case at least
        (0, Demand(cost(10), cost(90), 1), 100),  # a tenth of the limit at most
        (900, Demand(cost(10), cost(90), 2), 25),  # half of one's part of the room
        (900, Demand(cost(10), cost(90), 10), 10),
        (901, Demand(cost(10), cost(90), 10), None),  # not one worst case for each
        (0, Demand(cost(101), cost(1), 1), None),  # a call above a tenth of the limit
        (0, Demand(cost(0), cost(0), 1), 0),  # a free model
    ],
)
def test_the_size_follows_the_rule(settled: int, demand: Demand, size: int | None) -> None:
    window = Window(WindowKey(ID, "", 0), 10, 1_000, settled=settled)
    terms = terms_of(Budget(id=ID, limit=1_000, created_at=1))
    assert slice_of(terms, window, demand, 15_000_000) == size


@pytest.mark.parametrize(
    ("mode", "threshold", "used", "size"),
    [
        (Mode.HARD, Threshold(500_000, Action.REFUSE), 480, 10),
        (Mode.HARD, Threshold(500_000, Action.REFUSE), 500, None),
        (Mode.SOFT, Threshold(900_000, Action.PAUSE), 5_000, 30),
        (Mode.HARD, Threshold(500_000, Action.CLAMP, 9), 499, 30),
        (Mode.HARD, Threshold(500_000, Action.CLAMP, 9), 500, None),
    ],
)
def test_a_lease_respects_what_happens_at_a_threshold(
    mode: Mode, threshold: Threshold, used: int, size: int | None
) -> None:
    terms = terms_of(Budget(id=ID, limit=1_000, created_at=1, mode=mode, thresholds=(threshold,)))
    window = Window(WindowKey(ID, "", 0), 10, 1_000, settled=used)
    assert slice_of(terms, window, DEMAND, 15_000_000) == size


def test_a_lease_is_held_before_it_is_spent_and_reports_settle_it() -> None:
    engine = engine_of()
    client = leased(engine)
    window = engine.window(ID)
    assert (window.settled, window.held) == (0, 100)
    assert all(client.spend(cost(10), cost(7)) for _ in range(3))
    client.heartbeat()
    assert (window.settled, window.held) == (21, 79)
    assert client.rest == {0: 79}
    client.heartbeat(is_final=True)
    assert (window.settled, window.held, hold_of(client).state) == (21, 0, HoldState.SETTLED)


def test_a_client_never_spends_more_than_its_rest_nor_after_its_time() -> None:
    engine = engine_of()
    client = leased(engine)
    spent = sum(client.spend(cost(10), cost(10)) for _ in range(50))
    assert spent == 10
    other = leased(engine)
    engine.advance(HOUR // 2)
    assert not other.spend(cost(10), cost(10))


def test_a_report_lost_doubled_or_delayed_posts_once() -> None:
    engine = engine_of()
    client = leased(engine)
    client.spend(cost(10), cost(7))
    client.heartbeat()
    client.acknowledged = 0
    client.spend(cost(10), cost(8))
    client.heartbeat()
    assert (engine.window(ID).settled, engine.window(ID).held) == (15, 85)


def test_what_a_delayed_report_gives_back_or_asks_for_is_not_taken_again() -> None:
    engine = engine_of()
    client = leased(engine)
    gift = client.report_of(DEMAND, gives=60)
    client.send(gift, ())
    expires_at = hold_of(client).expires_at
    engine.advance(HOUR // 4)
    answers = [client.send(gift, ()), client.heartbeat(), client.send(gift, ())]
    assert [answer.is_renewed for answer in answers] == [False, False, False]
    assert (engine.window(ID).held, hold_of(client).expires_at) == (100, expires_at)


def test_open_leases_of_the_same_windows_count_as_clients() -> None:
    engine = engine_of()
    demand = Demand(cost(10), cost(90))
    first, second = leased(engine, demand), leased(engine, demand)
    engine.post(cost(500))
    third = leased(engine, demand)
    assert [client.rest[0] for client in (first, second, third)] == [100, 100, 300 // 6]
    first.heartbeat(is_final=True)
    assert leased(engine, demand).rest == {0: 350 // 6}


def test_a_renewal_fills_up_and_prolongs() -> None:
    engine = engine_of()
    client = leased(engine)
    for _ in range(10):
        client.spend(cost(10), cost(10))
    engine.advance(HOUR // 3)
    assert client.heartbeat(DEMAND).is_renewed
    assert client.rest == {0: 100}
    engine.advance(HOUR // 3)
    assert client.spend(cost(10), cost(10))


def test_no_renewal_reaches_into_the_next_window() -> None:
    engine = engine_of()
    client = leased(engine)
    engine.advance(5 * HOUR)
    assert not client.heartbeat(DEMAND).is_renewed
    client.heartbeat(is_final=True)
    assert len(engine.book.windows) == 1


def test_a_lowered_limit_recalls_what_is_not_in_use_and_renews_nothing() -> None:
    engine = engine_of()
    client = leased(engine)
    engine.change_limit(ID, 50)
    answer = client.heartbeat(DEMAND)
    assert (answer.is_recalled, answer.is_renewed) == (True, False)
    client.heartbeat(gives=60)
    assert (engine.window(ID).held, client.rest) == (40, {0: 40})


def test_a_lease_goes_on_but_is_recalled_once_too_little_is_left_for_leases() -> None:
    engine = engine_of()
    client = leased(engine)
    engine.post(cost(895))
    answer = client.heartbeat(Demand(cost(10), cost(1), clients=11))
    assert (answer.is_recalled, answer.is_renewed) == (True, True)


def test_an_idle_rest_is_recalled_while_others_find_no_room() -> None:
    engine = engine_of()
    idle = leased(engine)
    busy = engine.hold(cost(890))
    assert not idle.heartbeat(DEMAND).is_recalled
    engine.hold(cost(1))
    answer = idle.heartbeat(DEMAND)
    assert (answer.is_recalled, idle.rest) == (True, {0: 100})
    idle.heartbeat(gives=100)
    engine.void(busy)
    assert not idle.heartbeat(DEMAND).is_recalled


def test_a_killed_client_learns_it_from_its_next_report() -> None:
    engine = engine_of()
    client = leased(engine)
    gate.stop(engine.book.gates, GateKey(GateKind.AGENT, "a"), Stop(Owner.MANUAL, GateState.KILLED, 1))
    answer = client.heartbeat(DEMAND)
    assert (answer.stopped is not None, answer.is_renewed) == (True, False)
    assert not client.spend(cost(1), cost(1))
    assert isinstance(engine.acquire(DEMAND), Stopped)


@pytest.mark.parametrize("policy", OnExpiry)
def test_the_unreported_rest_of_a_dead_client_is_suspended_on_hard_budgets(policy: OnExpiry) -> None:
    engine = engine_of(on_expiry=policy)
    client = leased(engine)
    client.spend(cost(10), cost(7))
    client.heartbeat()
    client.spend(cost(10), cost(9))
    engine.advance(HOUR)
    engine.run_jobs()
    assert (hold_of(client).state, engine.window(ID).held) == (HoldState.SUSPENSE, 93)
    client.heartbeat()
    assert (engine.window(ID).settled, engine.window(ID).held, engine.window(ID).overrun) == (16, 84, 0)
    engine.advance(24 * HOUR)
    engine.run_jobs()
    assert hold_of(client).state is HoldState.EXPIRED


def test_a_lease_is_not_settled_like_a_hold() -> None:
    engine = engine_of()
    client = leased(engine)
    with pytest.raises(InvalidInput):
        engine.settle(hold_of(client), cost(5))
    assert engine.window(ID).held == 100


def test_a_journal_replayed_after_the_return_counts_as_unheld() -> None:
    engine = engine_of()
    client = leased(engine)
    client.spend(cost(10), cost(7))
    forgotten = list(client.journal)
    client.journal.clear()
    client.heartbeat(is_final=True)
    client.journal = forgotten
    client.heartbeat()
    window = engine.window(ID)
    assert (window.settled, window.held, window.unheld) == (7, 0, 7)


def test_a_second_process_on_one_lease_is_refused_and_reported() -> None:
    engine = engine_of()
    client = leased(engine)
    twin = LeaseClient(engine, hold_of(client), 0, nonce=b"other")
    twin.spend(cost(10), cost(10))
    with pytest.raises(LeaseShared):
        twin.heartbeat()
    assert len(engine.heard("lease.two_spenders")) == 1
    assert engine.window(ID).settled == 0


def test_an_actual_above_the_rest_is_overrun() -> None:
    engine = engine_of()
    client = leased(engine)
    client.write(cost(140))
    client.heartbeat()
    window = engine.window(ID)
    assert (window.settled, window.held, window.overrun) == (140, 0, 40)


def test_single_calls_are_posted_in_any_order_and_tell_what_they_did() -> None:
    engine = engine_of()
    client = leased(engine)
    spends = [Spend(numbered(70 + n), CALL, cost(n), engine.wall) for n in (9, 3)]

    def post(number: int) -> Outcome:
        matched, hold = engine.index.matching(CALL), hold_of(client)
        return engine.commit(
            lambda: spend_from_lease(engine.book, hold, spends[number], matched, engine.now())
        )

    assert [post(0), post(1)] == [Outcome.SETTLED, Outcome.SETTLED]
    engine.advance(HOUR)
    engine.run_jobs()
    assert post(0) is Outcome.LATE
    engine.void(hold_of(client), by_operator=True)
    assert post(1) is Outcome.UNHELD
    window = engine.window(ID)
    assert (window.settled, window.held, window.unheld, window.overrun) == (24, 0, 3, 0)


def test_a_suspended_lease_ends_once_all_of_it_is_accounted_for() -> None:
    engine = engine_of()
    client = leased(engine)
    while client.spend(cost(10), cost(10)):
        pass
    engine.advance(HOUR)
    engine.run_jobs()
    assert hold_of(client).state is HoldState.SUSPENSE
    client.heartbeat()
    assert (hold_of(client).state, engine.window(ID).open_legs) == (HoldState.SETTLED_LATE, 0)
    assert (engine.window(ID).settled, engine.window(ID).overrun) == (100, 0)


def test_a_full_budget_refuses_a_lease_and_opens_its_incident() -> None:
    engine = engine_of()
    engine.hold(cost(1_000))
    answer = engine.acquire(DEMAND)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NO_ROOM
    assert len(engine.heard("budget.exceeded")) == 1


def test_little_room_leaves_single_holds_only() -> None:
    engine = engine_of(1_000)
    engine.post(cost(985))
    crowd = engine.acquire(Demand(cost(10), cost(1), clients=2))
    assert isinstance(crowd, Refused)
    assert crowd.reason is Reason.SINGLE_HOLDS_ONLY
    assert isinstance(engine.ask(engine.request(cost(15))), Granted)


def test_the_same_key_gives_the_same_lease_and_another_body_a_conflict() -> None:
    engine = engine_of()
    key = numbered(60)
    first, again = engine.acquire(DEMAND, key=key), engine.acquire(DEMAND, key=key)
    assert isinstance(first, Granted)
    assert again == Granted(first.hold, is_repeat=True)
    other = LeaseRequest(hold_id=b"h", key=key, digest=b"other", call=CALL, nonce=b"n", demand=DEMAND)
    with pytest.raises(IdempotencyConflict):
        acquire(engine.book, other, engine.index.matching(CALL), engine.now())
    assert engine.window(ID).held == 100


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": 10**12}, {"demand": Demand(cost(1), clients=0)}])
def test_a_lease_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    engine = engine_of()
    base = {"hold_id": b"h", "key": b"k", "digest": b"d", "call": Call("a"), "nonce": b"n", "demand": DEMAND}
    request = LeaseRequest(**{**base, **wrong})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        acquire(engine.book, request, engine.index.matching(request.call), engine.now())


def test_many_clients_fill_a_budget_and_never_pass_it() -> None:
    engine = engine_of(1_000)
    window = None
    for _ in range(200):
        answer = engine.acquire(Demand(cost(10), cost(50), clients=4))
        if not isinstance(answer, Granted):
            break
        client = LeaseClient(engine, answer.hold, engine.monotonic)
        while client.spend(cost(10), cost(10)):
            pass
        client.heartbeat(is_final=True)
        window = engine.window(ID)
        assert window.settled + window.held <= window.limit
    while isinstance(answer := engine.ask(engine.request(cost(10))), Granted):
        engine.settle(answer.hold, cost(10))
    assert window is not None
    assert (window.settled, window.overrun, window.unheld) == (1_000, 0, 0)
