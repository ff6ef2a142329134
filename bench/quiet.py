"""Quiet moments on a machine that is shared: wait for them, and know what neighbours used.

A run beside a compiler says nothing. Each measured run therefore notes how much of a core
other processes used meanwhile; noisy runs are taken again, and of all runs the quietest
count.
"""

import os
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Protocol, TypeVar

HERE = Path(__file__).parent
SLOW_SYNC_MS = 1.0
"""A disk that takes longer is busy with somebody else's writes, or is held back by its host."""
QUIET_CORES = 0.12
"""Neighbours that use less than this do not show in a figure."""
TRIES = 2
"""How many runs are taken for each one that counts, at most."""
PATIENCE_SECONDS = 10.0
IMPATIENT = "BENCH_IMPATIENT"
"""Set in the environment: do not mind neighbours. For a machine that is never quiet, where taking
precedence (`nice -n -20 make bench`, as root) serves better than waiting."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Noted(Protocol):
    """A run that knows what its neighbours used."""

    @property
    def neighbours(self) -> float:
        """Cores that other processes used during the run."""
        ...


Round = TypeVar("Round", bound=tuple[Noted, ...])


def busy_s() -> float:
    """Return the CPU seconds that the whole machine has used, stolen time too."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, _idle, _waiting, irq, soft, steal = map(int, fields)
    return (user + nice + system + irq + soft + steal) / _TICKS


def sync_ms(folder: Path) -> float:
    """Return the median milliseconds that the disk takes to make 64 KiB durable, of 20 times."""
    times: list[float] = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(20):
            file.write(bytes(65_536))
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return median(times) * 1e3


def wait() -> None:
    """Wait for a moment in which little else runs and the disk is quick, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        before = busy_s()
        time.sleep(0.4)
        is_quiet = IMPATIENT in os.environ or (busy_s() - before) / 0.4 < QUIET_CORES * 2
        if is_quiet and sync_ms(HERE) < SLOW_SYNC_MS:
            return


def quietest(take: Callable[[], Round], repeats: int, *, tries: int | None = None) -> list[Round]:
    """Return `repeats` rounds of `take`, the quietest of `tries` (`TRIES` times as many).

    A round is a tuple of runs that were made one after the other, to be compared.
    """
    rounds: list[tuple[bool, float, Round]] = []
    for _ in range(tries or repeats * TRIES):
        wait()
        before = sync_ms(HERE)
        runs = take()
        is_slow = max(before, sync_ms(HERE)) > SLOW_SYNC_MS
        noise = max(run.neighbours for run in runs)
        rounds.append((is_slow, noise, runs))
        good = [one for one in rounds if not one[0] and (one[1] < QUIET_CORES or IMPATIENT in os.environ)]
        if len(good) >= repeats:
            break
    return [runs for _, _, runs in sorted(rounds, key=itemgetter(0, 1))[:repeats]]
