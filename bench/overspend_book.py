"""The callers' own book: what they asked for, were granted, and spent at the provider.

It knows nothing that the server says about its windows, so that the two can be compared. All
amounts are nano-USD, all times of `time.perf_counter`. From it follow:

    what was spent          exactly
    used, at least          what was certainly in use at once, which may never pass the limit
    wrong refusals          those for which there was room even if everything that may have
                            counted at any moment between question and answer did count
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple


@dataclass(slots=True)
class Entry:
    """One call of one caller, under one idempotency key.

    Attributes:
        asked_at: When the first request for it left.
        worst_nusd: What it set aside; while no answer has come, what it may have set aside at most.
        granted_at: When the grant had come; None where none came.
        is_refused: No hold stands for it.
        ending_at, ended_at: When its settlement or void left, and was answered.
        spent_nusd: What the provider charged, reported or not.
        reported_nusd: What was settled; None where nothing was.
        lapsed_at: For an abandoned one: when its room was seen to be back.
        lapses_at: For an abandoned one: when its room may be back at the earliest.
    """

    key: str
    worst_nusd: int
    asked_at: float = 0.0
    granted_at: float | None = None
    is_refused: bool = False
    ending_at: float | None = None
    ended_at: float | None = None
    spent_nusd: int = 0
    reported_nusd: int | None = None
    lapses_at: float | None = None
    lapsed_at: float | None = None

    @property
    def excess_nusd(self) -> int:
        """What was reported above what was set aside."""
        return max(0, (self.reported_nusd or 0) - self.worst_nusd)


class Refusal(NamedTuple):
    """One refusal for want of room, and between which instants it was decided."""

    key: str
    asked_nusd: int
    asked_at: float
    answered_at: float


@dataclass
class Book:
    """All calls of one scenario, and how many of which kind there were."""

    limit_nusd: int
    entries: dict[str, Entry] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    unheld_nusd: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        """Count one more of a kind."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def expect(self, *, that: bool, sentence: str) -> None:
        """Keep a sentence about something that must hold and does not."""
        if not that:
            self.faults.append(sentence)

    @property
    def spent_nusd(self) -> int:
        """What the provider charged for everything."""
        return sum(entry.spent_nusd for entry in self.entries.values()) + self.unheld_nusd

    @property
    def reported_nusd(self) -> int:
        """What the server was told of it."""
        return sum(entry.reported_nusd or 0 for entry in self.entries.values()) + self.unheld_nusd

    @property
    def overrun_nusd(self) -> int:
        """What was reported above what was set aside for it."""
        return sum(entry.excess_nusd for entry in self.entries.values())

    @property
    def used_at_least_nusd(self) -> int:
        """The most that was certainly in use at one time: a limit below this was passed."""
        changes: list[tuple[float, int]] = []
        for entry in self.entries.values():
            if entry.granted_at is None:
                continue
            changes.append((entry.granted_at, entry.worst_nusd))
            back = entry.worst_nusd - min(entry.reported_nusd or 0, entry.worst_nusd)
            left_at = entry.ending_at if entry.ending_at is not None else entry.lapses_at
            if left_at is not None:
                # A hold that lapsed before its grant was heard of was never certainly in use.
                changes.append((max(left_at, entry.granted_at), -back))
        return max(accumulate(amount for _, amount in sorted(changes)), default=0)

    def wrong_refusals(self) -> list[Refusal]:
        """Return the refusals that the book proves wrong."""
        standing = [entry for entry in self.entries.values() if not entry.is_refused]
        # Of a call whose answer nobody heard: it set aside no more than the largest that was asked for.
        known = [entry.worst_nusd for entry in standing if entry.granted_at is not None]
        most = max([*known, *(one.asked_nusd for one in self.refusals)], default=0)
        for entry in standing:
            entry.worst_nusd = min(entry.worst_nusd, most)
        taken = _Sums((entry.asked_at, entry.worst_nusd) for entry in standing)
        given = _Sums(
            (entry.ended_at if entry.ended_at is not None else entry.lapsed_at, _given_back(entry))
            for entry in standing
        )
        more = _Sums((entry.ending_at, entry.excess_nusd) for entry in standing)
        return [one for one in self.refusals if self._is_wrong(one, taken, given, more)]

    def _is_wrong(self, one: Refusal, taken: "_Sums", given: "_Sums", more: "_Sums") -> bool:
        most = taken.until(one.answered_at) + more.until(one.answered_at) - given.before(one.asked_at)
        own = self.entries[one.key]
        if not own.is_refused and own.asked_at <= one.answered_at:
            most -= own.worst_nusd
        return most + one.asked_nusd <= self.limit_nusd


def _given_back(entry: Entry) -> int:
    return max(0, entry.worst_nusd - (entry.reported_nusd or 0))


class _Sums:
    """Running sums of amounts over time; what never happened has no time and is left out."""

    def __init__(self, changes: Iterable[tuple[float | None, int]]) -> None:
        known = sorted((at, amount) for at, amount in changes if at is not None)
        self._times: Sequence[float] = [at for at, _ in known]
        self._sums = [0, *accumulate(amount for _, amount in known)]

    def until(self, at: float) -> int:
        """Return the sum of what happened at or before `at`."""
        return self._sums[bisect_right(self._times, at)]

    def before(self, at: float) -> int:
        """Return the sum of what happened before `at`."""
        return self._sums[bisect_left(self._times, at)]
