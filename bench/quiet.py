"""Quiet moments on a machine that is shared: wait for them, and know what neighbours used.

A run beside a compiler says nothing. Each measured run therefore notes how much of a core
other processes used meanwhile; noisy runs are taken again, and of all runs the quietest
count.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Protocol, TypeVar

QUIET_CORES = 0.12
"""Neighbours that use less than this do not show in a figure."""
TRIES = 3
"""How many runs are taken for each one that counts, at most."""
PATIENCE_SECONDS = 20.0
IMPATIENT = "BENCH_IMPATIENT"
"""Set in the environment: take each run as it comes. For a machine that is never quiet, where
`nice -n -20 make bench` as root serves better than waiting."""
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
    """Return the median milliseconds that the disk takes to make 64 KiB durable, of 50 times."""
    times: list[float] = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(50):
            file.write(bytes(65_536))
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return median(times) * 1e3


def wait() -> None:
    """Wait for a moment in which little else runs, but not for ever."""
    deadline = time.monotonic() + (PATIENCE_SECONDS if IMPATIENT not in os.environ else 0)
    while time.monotonic() < deadline:
        before = busy_s()
        time.sleep(0.4)
        if (busy_s() - before) / 0.4 < QUIET_CORES * 2:
            return


def quietest(take: Callable[[], Round], repeats: int, *, tries: int | None = None) -> list[Round]:
    """Return `repeats` rounds of `take`, the quietest of `tries` (`TRIES` times as many).

    A round is a tuple of runs that were made one after the other, to be compared.
    """
    rounds: list[Round] = []
    most = tries or repeats * TRIES
    for _ in range(repeats if IMPATIENT in os.environ else most):
        wait()
        rounds.append(take())
        if sum(_noise(one) < QUIET_CORES for one in rounds) >= repeats:
            break
    return sorted(rounds, key=_noise)[:repeats]


def _noise(runs: tuple[Noted, ...]) -> float:
    return max(run.neighbours for run in runs)
