"""Prove each minute what was touched since the last look: postings, holds, and their windows.

Work grows with what was touched and what is held at the moment, not with what was ever spent. What
a window had settled at the last look is remembered; postings since then must make the difference:

    settled before  +  postings since  =  settled now

Their time never goes back within an organisation, so they are found from a mark on. Several commits
may share the time of the mark: what is remembered leaves that instant out, and it is read again.
While the clock is set back all commits share one instant, which is then read each time.

Memory is bounded: `WATCHED_MAX` windows that are not closed, and the ids of open holds. Closed windows
are forgotten; one that a late event touches is added up anew, within `SUMMED_MAX` postings, or waits
for the round (`verify_rounds`). That what is remembered was right is proved by the round as well.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from bursar.budgets.hold import Hold
from bursar.budgets.window import Window, WindowKey
from bursar.storage.sql import verify_holds, verify_postings, verify_windows
from bursar.storage.sql.verify_ports import Row
from bursar.storage.sql.verify_postings import Sum, Sums
from bursar.storage.sql.verify_scope import TIME_MAX, TIME_MIN, Scope
from bursar.storage.sql.verify_windows import Held, Place, Rules

WATCHED_MAX = 100_000
"""Windows whose settled amount is remembered: some 30 MB."""

SUMMED_MAX = 200_000
"""Postings that are read to add up one window anew: some 300 ms."""

ROLLED = 1_000
"""Remembered windows that are looked at each time though nothing is known to have touched them."""

READ_AT_ONCE = 1_000
"""Windows in memory while they are looked at."""

FAULTY_MAX = 100
"""Windows, holds and sources found faulty that are looked at again each time, of each kind."""

_ID_SPARE_MS = 60_000
"""Holds get their ids before their commit: so much of an id's time is looked at again."""

_NEWEST_POSTING = "SELECT max(at) FROM posting INDEXED BY posting_by_time WHERE org = ?1"
_NEWEST_HOLD = "SELECT id FROM hold WHERE org = ?1 ORDER BY id DESC LIMIT 1"
_RUNNING = """SELECT budget, member, starts_at, settled FROM budget_window INDEXED BY budget_window_running
    WHERE org = ?1 AND state <> 'closed' LIMIT ?2"""
_SINCE = """SELECT count(*) FROM (SELECT 1 FROM posting INDEXED BY posting_by_time
    WHERE org = ?1 AND at >= ?2 LIMIT ?3) AS r"""


class _Touched:
    """What one look finds: fresh sums, sums of the newest instant, open legs, touched windows."""

    def __init__(self) -> None:
        self.fresh: Sums = {}
        self.tail: Sums = {}
        self.held: dict[WindowKey, Held] = {}
        self.windows: dict[WindowKey, None] = {}
        self.sources: set[bytes] = set()


class RecentBudgets:
    """One organisation's budgets as they were at the last look; the bounds are the module's."""

    def __init__(self, *, watched_max: int = WATCHED_MAX, summed_max: int = SUMMED_MAX) -> None:
        self._watched_max = watched_max
        self._summed_max = summed_max
        self._mark: int | None = None
        self._settled: dict[WindowKey, int] = {}
        self._is_full = False
        self._last_hold = b""
        self._open: set[bytes] = set()
        self._held_in: dict[WindowKey, None] = {}
        self._turn = 0
        self._faulty_windows: dict[WindowKey, None] = {}
        self._faulty_holds: dict[bytes, None] = {}
        self._faulty_sources: dict[bytes, None] = {}

    def check(self, scope: Scope) -> None:
        """Prove what was touched since the last call; the first one only remembers, and looks at holds."""
        if self._mark is None:
            self._begin(scope)
        touched = _Touched()
        self._read_postings(scope, touched)
        self._read_holds(scope, touched)
        self._gather(touched)
        rules = verify_windows.load_rules(scope, {key.budget for key in touched.windows})
        faulty: dict[WindowKey, None] = {}
        for key, place in _places(scope, touched.windows):
            before = scope.findings.violations_count
            self._check_window(scope, rules, key, place, touched)
            if scope.findings.violations_count > before and len(faulty) < FAULTY_MAX:
                faulty[key] = None
        scope.findings.checked("windows", len(touched.windows))
        self._faulty_windows = faulty
        self._held_in = dict.fromkeys(touched.held)

    def _begin(self, scope: Scope) -> None:
        """Remember what running windows have settled, without the newest instant."""
        self._mark = self._newest(scope)
        tail = self._sums_at(scope, self._mark)
        for budget, member, starts_at, settled in scope.stream(_RUNNING, self._watched_max + 1):
            key = WindowKey(budget, member, starts_at)
            self._settled[key] = settled - tail.get(key, Sum()).settled
        self._is_full = len(self._settled) > self._watched_max
        self._last_hold = _newest_hold(scope)

    def _read_postings(self, scope: Scope, touched: _Touched) -> None:
        """Add up what was posted since the mark, the mark's own instant included; move the mark."""
        assert self._mark is not None  # noqa: S101 - `check` has begun
        decided_at = verify_windows.decided_at(scope)
        found = scope.stream(verify_postings.BETWEEN, self._mark - 1, TIME_MAX)
        again, self._faulty_sources = self._faulty_sources, {}
        for source, _, is_sound in verify_postings.add(scope, found, touched.fresh, decided_at=decided_at):
            touched.sources.add(source)
            if not is_sound and len(self._faulty_sources) < FAULTY_MAX:
                self._faulty_sources[source] = None
        for source in again.keys() - touched.sources:
            rest = scope.rows(verify_postings.OF_SOURCE, source)
            sound = [ok for _, _, ok in verify_postings.add(scope, rest, {}, decided_at=decided_at)]
            if not all(sound):
                self._faulty_sources[source] = None
        self._mark = max(self._mark, self._newest(scope))
        touched.tail = self._sums_at(scope, self._mark)

    def _read_holds(self, scope: Scope, touched: _Touched) -> None:
        """Check the holds that are open, that were made, and that have ended since the last look."""
        faulty: dict[bytes, None] = {}
        seen: set[bytes] = set()

        def look(found: Iterable[Row]) -> Iterator[Hold]:
            for hold_id, hold, is_sound in verify_holds.check(scope, found):
                seen.add(hold_id)
                if not is_sound and len(faulty) < FAULTY_MAX:
                    faulty[hold_id] = None
                if hold is not None:
                    touched.windows.update((leg.window, None) for leg in hold.legs)
                    yield hold

        for sql in (verify_holds.OPEN, verify_holds.SUSPENDED):
            verify_windows.held_by(look(scope.stream(sql)), touched.held)
        open_now = set(seen)
        newest = _newest_hold(scope)
        for _ in look(scope.stream(verify_holds.BETWEEN, _earlier(self._last_hold), newest)):
            pass
        others = (self._open | touched.sources | self._faulty_holds.keys()) - seen
        for _ in look(scope.among(verify_holds.SOME, verify_holds.ID, [(one,) for one in others])):
            pass
        self._open, self._last_hold, self._faulty_holds = open_now, newest, faulty

    def _gather(self, touched: _Touched) -> None:
        """Add all other windows that are to be looked at, and a few in turn."""
        for keys in (touched.fresh, touched.held, self._held_in, self._faulty_windows):
            touched.windows.update(dict.fromkeys(keys))
        if self._turn >= len(self._settled):
            self._turn = 0
        touched.windows.update(dict.fromkeys(islice(self._settled, self._turn, self._turn + ROLLED)))
        self._turn += ROLLED

    def _check_window(
        self, scope: Scope, rules: Rules, key: WindowKey, place: Place | None, touched: _Touched
    ) -> None:
        fresh, held = touched.fresh.get(key, Sum()), touched.held.get(key, Held())
        if place is None:
            settled = self._settled.get(key, 0) + fresh.settled
            if settled or held.legs or fresh.gained:
                verify_windows.missing(scope, key, "settled", settled)
            return
        window = place.window
        settled_now = self._expected(scope, window, fresh)
        if settled_now is not None and settled_now != window.settled:
            anew = self._summed(scope, window)
            settled_now = settled_now if anew is None else anew
        verify_windows.check_counts(scope, window, settled_now, held)
        verify_windows.check_place(scope, place, rules)
        if settled_now is None or (window.is_closed and settled_now == window.settled):
            self._settled.pop(key, None)
        elif key in self._settled or len(self._settled) <= self._watched_max:
            self._settled[key] = settled_now - touched.tail.get(key, Sum()).settled
        else:
            self._is_full = True

    def _expected(self, scope: Scope, window: Window, fresh: Sum) -> int | None:
        """Return what a window must have settled, None where that is left to the round."""
        before = self._settled.get(window.key)
        if before is not None:
            return before + fresh.settled
        if window.is_closed or self._is_full:
            return self._summed(scope, window)
        return fresh.settled  # made since the last look: every running one is remembered

    def _summed(self, scope: Scope, window: Window) -> int | None:
        """Add a window's postings up anew, none of which is older than its beginning; None if too many."""
        since = max(window.starts_at, TIME_MIN + 1)
        if scope.number(_SINCE, since, self._summed_max + 1) > self._summed_max:
            return None
        own = window.key
        found = verify_postings.of_budget(scope, since, own.budget)
        return verify_postings.summed(scope, found, lambda key: key == own).get(own, Sum()).settled

    @staticmethod
    def _newest(scope: Scope) -> int:
        newest = scope.rows(_NEWEST_POSTING).fetchone()[0]
        return TIME_MIN + 1 if newest is None else int(newest)

    @staticmethod
    def _sums_at(scope: Scope, at: int) -> Sums:
        found = scope.stream(verify_postings.BETWEEN, at - 1, at)
        return verify_postings.summed(scope, found, verify_postings.all_windows)


def _places(scope: Scope, keys: Iterable[WindowKey]) -> Iterator[tuple[WindowKey, Place | None]]:
    """Give each window between its neighbours, None where it is missing, few in memory at a time."""
    left = iter(keys)
    while some := list(islice(left, READ_AT_ONCE)):
        found = verify_windows.places_of(scope, some)
        yield from ((key, found.get(key)) for key in some)


def _newest_hold(scope: Scope) -> bytes:
    found = scope.rows(_NEWEST_HOLD).fetchone()
    return b"" if found is None else found[0]


def _earlier(hold_id: bytes) -> bytes:
    """Return an id from a minute before another's, by the time in its first 48 bits."""
    at = max(int.from_bytes(hold_id[:6], "big") - _ID_SPARE_MS, 0)
    return at.to_bytes(6, "big") + bytes(10)
