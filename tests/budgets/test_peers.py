"""Where other products broke, each with the opposite result here."""

from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book
from bursar.budgets.budget import Action, Budget, Threshold
from bursar.budgets.hold import Granted, HoldState
from bursar.budgets.refusal import Reason, Refused, Stopped
from bursar.core.periods import Period

ID = numbered(1_000)
CENT = 10_000_000


def engine_of(**fields: object) -> Engine:
    return Engine(Budget(**{"id": ID, "limit": 100 * CENT, "created_at": 1, **fields}))  # type: ignore[arg-type]


def test_fifty_calls_that_all_ask_before_the_first_ends_stay_within_the_limit() -> None:
    engine = engine_of()
    answers = [engine.ask(engine.request(cost(35 * CENT))) for _ in range(50)]
    granted = [answer.hold for answer in answers if isinstance(answer, Granted)]
    for hold in granted:
        engine.settle(hold, cost(35 * CENT))
    assert (len(granted), engine.window(ID).settled) == (2, 70 * CENT)


def test_several_processes_share_one_limit_not_one_each() -> None:
    engine = engine_of()
    granted = 0
    for _ in range(300):
        engine.restart()  # another process: it knows what the store knows, and nothing else
        granted += isinstance(engine.ask(engine.request(cost(CENT))), Granted)
    assert granted == 100


def test_a_process_that_did_not_load_a_budgets_windows_cannot_grant() -> None:
    engine = engine_of()
    request = engine.request(cost(CENT))
    empty = Book(engine.index.terms)
    try:
        answer = authorise(empty, request, engine.index.matching(request.call), engine.now())
    except LookupError:
        answer = None
    assert answer is None
    assert empty.take() == ([], [], [], [])


def test_reservations_do_not_leak_whatever_clients_do() -> None:
    engine = engine_of()
    for _ in range(5):
        holds = [engine.hold(cost(20 * CENT)) for _ in range(5)]
        engine.lapse()
        assert {hold.state for hold in holds} == {HoldState.EXPIRED}
    assert (engine.window(ID).held, engine.window(ID).open_legs) == (0, 0)


def test_a_budget_stop_of_yesterday_does_not_refuse_today() -> None:
    engine = engine_of(thresholds=(Threshold(1_000_000, Action.KILL),))
    engine.post(cost(100 * CENT))
    assert isinstance(engine.ask(engine.request(cost(0))), Stopped)
    engine.advance(24 * HOUR)
    assert isinstance(engine.ask(engine.request(cost(CENT))), Granted)


def test_a_thousand_calls_of_an_unknown_model_are_not_a_thousand_free_calls() -> None:
    engine = engine_of()
    answers = [engine.ask(engine.request(cost(None))) for _ in range(1_000)]
    assert all(isinstance(a, Refused) and a.reason is Reason.UNKNOWN_PRICE for a in answers)
    engine.post(cost(None))
    assert engine.window(ID).unpriced == 1
    assert isinstance(engine.ask(engine.request(cost(CENT))), Refused)


def test_twenty_thousand_equal_calls_add_up_to_the_last_digit() -> None:
    engine = engine_of(period=Period.TOTAL, limit=10**15)
    terms = engine.index.terms[ID]
    for _ in range(20_000):
        engine.post(cost(1_234_567))
    assert engine.book.window_at(terms, "", engine.wall).settled == 20_000 * 1_234_567


def test_an_oversized_call_is_refused_not_cut_to_fit() -> None:
    engine = engine_of()
    engine.hold(cost(60 * CENT))
    assert isinstance(engine.ask(engine.request(cost(41 * CENT))), Refused)
    assert engine.window(ID).held == 60 * CENT
