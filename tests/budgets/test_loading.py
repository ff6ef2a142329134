"""What an engine loads for a commit is enough: the latest windows of the tracks, and the holds named."""

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from memory_engine import HOUR, Engine, cost, numbered

from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book, TrackKey, Writes, track_keys
from bursar.budgets.budget import Budget, Mode, Scope
from bursar.budgets.hold import Granted, Hold, HoldState
from bursar.budgets.lifecycle import void
from bursar.budgets.matching import Call
from bursar.budgets.settlement import Spend, post, settle
from bursar.budgets.window import Window, WindowKey
from bursar.core.periods import Period

BUDGETS = [
    Budget(id=numbered(901), limit=60, created_at=1),
    Budget(id=numbered(902), limit=40, created_at=1, period=Period.HOURLY, scope=Scope(agent="a")),
    Budget(id=numbered(903), limit=50, created_at=1, period=Period.RUN),
    Budget(id=numbered(904), limit=50, created_at=1, period=Period.SESSION_5H),
    Budget(id=numbered(905), limit=90, created_at=1, period=Period.MONTHLY, mode=Mode.SOFT),
]
calls = st.builds(lambda agent, run: Call(agent, run=run), st.sampled_from("ab"), st.sampled_from(["", "r"]))
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "settle", "void", "post"]), calls, st.integers(1, 20), st.integers(0, 3)
    ),
    max_size=40,
)


class Store:
    """Rows as bytes; every commit begins with an empty book and loads what the protocol names."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.windows: dict[WindowKey, bytes] = {}
        self.holds: dict[bytes, bytes] = {}

    def load(self, keys: list[TrackKey], hold: bytes | None) -> Book:
        book = Book(self.engine.index.terms)
        for key in keys:
            found = sorted(name for name in self.windows if name[:2] == key)
            book.load_track(key, [self.window(name) for name in found[-1:]])
        if hold is not None and hold in self.holds:
            row = msgspec.msgpack.decode(self.holds[hold], type=Hold)
            book.load_hold(row)
            for leg in row.legs:
                book.load_window(self.window(leg.window))
        return book

    def window(self, key: WindowKey) -> Window:
        return msgspec.msgpack.decode(self.windows[key], type=Window)

    def commit(self, call: Call, hold: bytes | None, work: Callable[[Book], object]) -> object:
        book = self.load(track_keys(self.engine.index.matching(call), call), hold)
        result = work(book)
        self.write(book.take())
        return result

    def write(self, writes: Writes) -> None:
        self.windows |= {window.key: msgspec.msgpack.encode(window) for window in writes.windows}
        self.holds |= {hold.id: msgspec.msgpack.encode(hold) for hold in writes.holds}


@given(steps)
def test_deciding_over_what_was_loaded_is_deciding_over_everything(
    made: list[tuple[str, Call, int, int]],
) -> None:
    engine = Engine(*BUDGETS)
    store = Store(engine)
    for kind, call, amount, hours in made:
        engine.advance(hours * HOUR)
        now, matched = engine.now(), engine.index.matching(call)
        holds = [hold for hold in engine.book.holds.values() if hold.state is HoldState.OPEN]
        if kind == "ask":
            request = engine.request(cost(amount), call)
            whole = engine.ask(request)
            part = store.commit(call, None, lambda book: authorise(book, request, matched, now))  # noqa: B023
            assert isinstance(part, Granted) is isinstance(whole, Granted)
        elif kind == "post":
            spend = engine.post(cost(amount), call)
            store.commit(call, None, lambda book: post(book, spend, matched, now))  # noqa: B023
        elif holds:
            hold = holds[amount % len(holds)]
            own = engine.index.matching(hold.call)
            if kind == "void":
                engine.void(hold)
                store.commit(hold.call, hold.id, lambda book: void(book, book.holds[hold.id], now))  # noqa: B023
            else:
                used = Spend(hold.key, hold.call, cost(amount), engine.wall)
                engine.settle(hold, used.amounts)
                store.commit(
                    hold.call,
                    hold.id,
                    lambda book: settle(book, book.holds[hold.id], used, own, now),  # noqa: B023
                )
    assert {key: store.window(key) for key in store.windows} == engine.book.windows
    assert {
        key: msgspec.msgpack.decode(row, type=Hold) for key, row in store.holds.items()
    } == engine.book.holds
