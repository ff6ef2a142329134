"""The time that decides: it never goes back, and a sudden step forward is suspect.

    wall clock, monotonic clock  →  DecisionClock.read  →  Now  →  every decision

Deciding time is the later of the wall clock and the last time used, so a clock set back
never reopens a window. A step of more than a minute ahead of the monotonic clock may be
an error that would open tomorrow's window today: until somebody confirms it, hard budgets
must fit the window of the time we would have *and* that of the time we are told. The two
clocks are read by the caller; here is only arithmetic.
"""

from typing import NamedTuple

import msgspec

from bursar.core.time import MICROS_PER_SECOND

SUSPECT_STEP_MICROS = 60 * MICROS_PER_SECOND


class Now(NamedTuple):
    """Deciding time, microseconds UTC, and beside it the time before a step that is suspect.

    `doubted` is None while the clock is trusted.
    """

    at: int
    doubted: int | None = None

    @property
    def trusted(self) -> int:
        """The time by which room is given back and windows end: the earlier one while in doubt."""
        return self.at if self.doubted is None else self.doubted


class DecisionClock(msgspec.Struct):
    """The last time used, and the time we would have had the wall clock never stepped.

    `last` is stored, so that a restart does not go back either; the rest is of this
    process, empty before the first reading.
    """

    last: int = 0
    monotonic: int | None = None
    steady: int = 0
    is_doubted: bool = False

    def read(self, wall: int, monotonic: int) -> Now:
        """Return the time to decide by, and remember it.

        Args:
            wall: Microseconds UTC by the system or the database.
            monotonic: Microseconds by a clock that never steps, of any origin.
        """
        if self.monotonic is None:
            self.steady = max(self.last, wall)
        else:
            self.steady += max(0, monotonic - self.monotonic)
        self.monotonic = monotonic
        if wall > self.steady + SUSPECT_STEP_MICROS:
            self.is_doubted = True
        self.last = max(self.last, wall)
        if not self.is_doubted:
            self.steady = max(self.steady, wall)
        elif self.steady >= self.last:
            self.is_doubted = False  # time itself has caught up with the step
        return Now(self.last, self.steady if self.is_doubted else None)

    def observe(self, last: int) -> None:
        """Do not go behind `last`, by which another process has decided. See `read` for what is suspect."""
        if last > self.last:
            self.last = last
            if self.monotonic is not None and last > self.steady + SUSPECT_STEP_MICROS:
                self.is_doubted = True

    def confirm(self) -> None:
        """Believe the step: from now on only the time we are told counts."""
        self.steady, self.is_doubted = self.last, False
