"""A ledger of many events, made once by the product's own intake and kept in `bench/data`.

200 organisations whose sizes fall by Zipf's law (the largest has a fifth of all), 90 days,
400 agents in the largest, twenty calls a run. Twenty of its agents stop after ten days, so
that there is somebody to look for who has long been idle. Each organisation's events come
in the order of their times, as they would have over the months; with random keys the key
table is therefore as scattered as it would have become.
"""

import asyncio
import hashlib
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_SECOND, system_clock
from bursar.identity.keys import Scope
from bursar.settings import Settings
from bursar.storage.sqlite.store import DATABASE_NAME
from bursar.wiring import Treasury
from results import say
from traffic import BATCH_EVENTS, RUN_CALLS, Call, Fleet, Traffic, event_of

TRAFFIC = 1
"""Raised by whoever changes what the calls on file look like."""
ORGANISATIONS = 200
LARGEST_SHARE = 0.2
DAYS = 90
IDLE_AFTER_DAYS = 10
AGENTS = 400
AGENTS_IDLE = 20
CALL_MICROS = 8 * MICROS_PER_SECOND
SORTED_CALLS = 20_000
"""Runs overlap: so many calls at a time are put in order of time."""


class Filled(msgspec.Struct):
    """A ledger on file, and what is needed to ask it something: the largest organisation's key."""

    folder: str
    events: int
    largest_events: int
    ordered_keys: bool
    key: str
    ends_at: int
    shape: str

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.folder) / DATABASE_NAME


def filled(data: Path, events: int, *, ordered_keys: bool) -> Filled:
    """Return the ledger of that size under `data`, made when it is not there or of another schema."""
    folder = data / f"ledger-{events}-{'ordered' if ordered_keys else 'random'}"
    note = folder / "filled.json"
    shape = shape_of(data)
    if note.exists():
        known = msgspec.json.decode(note.read_bytes(), type=Filled)
        if known.shape == shape:
            return known
    if ordered_keys:
        shutil.rmtree(folder, ignore_errors=True)
        made = asyncio.run(_fill(folder, events, shape=shape))
    else:
        made = copied(filled(data, events, ordered_keys=True), folder)
        note.unlink()
        _scatter(made.path)
        made.ordered_keys = False
    note.write_bytes(msgspec.json.encode(made))
    return made


def copied(original: Filled, folder: Path) -> Filled:
    """Return a copy in `folder`, so that the original stays as it was made."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original.folder, folder)
    return msgspec.structs.replace(original, folder=str(folder))


def shape_of(data: Path) -> str:
    """Return a digest of the schema and of `TRAFFIC`: a change of either makes files anew."""
    with TemporaryDirectory(dir=data) as probe:
        treasury = Treasury(Settings(data_dir=Path(probe)))
        asyncio.run(treasury.stop())
        with closing(sqlite3.connect(Path(probe) / DATABASE_NAME)) as connection:
            schema = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    return hashlib.sha256(repr((TRAFFIC, schema)).encode()).hexdigest()[:16]


def sizes(events: int) -> list[int]:
    """Return how many events each organisation has, the largest first."""
    low, high = 0.5, 2.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        share = 1 / sum(rank**-middle for rank in range(1, ORGANISATIONS + 1))
        low, high = (middle, high) if share < LARGEST_SHARE else (low, middle)
    weights = [rank**-low for rank in range(1, ORGANISATIONS + 1)]
    return [max(RUN_CALLS, round(events * weight / sum(weights))) for weight in weights]


def _scatter(path: Path) -> None:
    """Give each event a random key in place of its time-ordered one.

    The key table is filled anew in order of time, so that it becomes as scattered as random
    keys would have made it.
    """
    say("giving random keys")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("random_key", 1, _random_key, deterministic=True)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(event)")]
        listed = ", ".join(columns)
        changed = ", ".join("random_key(key)" if name == "key" else name for name in columns)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -2000000",
            f"ATTACH '{path}-scratch' AS scratch",
            "PRAGMA scratch.journal_mode = OFF",
            f"CREATE TABLE scratch.event AS SELECT {listed} FROM main.event",
            "DELETE FROM main.event",
            f"INSERT INTO main.event ({listed}) SELECT {changed} FROM scratch.event",
            "DETACH scratch",
            "DELETE FROM event_key",
            """INSERT INTO event_key (org, key, occurred_at, revision)
                SELECT org, key, occurred_at, 0 FROM event""",
            "PRAGMA journal_mode = WAL",
        ):
            connection.execute(statement)
    Path(f"{path}-scratch").unlink()


def _random_key(key: bytes) -> bytes:
    """Return a UUIDv4 that belongs to `key`."""
    digest = bytearray(hashlib.blake2b(key, digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


async def _fill(folder: Path, events: int, *, shape: str) -> Filled:
    ends_at = system_clock() // MICROS_PER_DAY * MICROS_PER_DAY
    treasury = Treasury(Settings(data_dir=folder))
    planned = sizes(events)
    done, begin = 0, time.monotonic()
    say(f"making {folder.name}: {sum(planned):,} events of {len(planned)} organisations")
    key = ""
    for rank, size in enumerate(planned):
        made = await treasury.create_organisation(f"organisation-{rank:03d}", "UTC")
        if rank == 0:
            key = await treasury.create_key(made.org, "bench", frozenset({Scope.INGEST, Scope.READ}))
        done += await _fill_one(treasury, made.org, _calls(rank, size, ends_at))
        if rank < 10 or rank % 20 == 0:
            say(f"  {done:,} events, {done / (time.monotonic() - begin):,.0f} a second")
    await treasury.stop()
    return Filled(str(folder), done, planned[0], ordered_keys=True, key=key, ends_at=ends_at, shape=shape)


async def _fill_one(treasury: Treasury, org: Org, calls: Iterator[Call]) -> int:
    count = 0
    while part := [event_of(call) for call in islice(calls, BATCH_EVENTS)]:
        receipt = await treasury.intake.record(org, part)
        assert receipt.recorded == len(part)
        count += len(part)
    return count


def _calls(rank: int, size: int, ends_at: int) -> Iterator[Call]:
    """Yield an organisation's calls of the 90 days before `ends_at`, ordered by time."""
    rng = random.Random(rank)
    starts_at = ends_at - DAYS * MICROS_PER_DAY
    span = DAYS * MICROS_PER_DAY - RUN_CALLS * CALL_MICROS
    runs = sorted(starts_at + rng.randrange(span) for _ in range(size // RUN_CALLS))
    turn = starts_at + IDLE_AFTER_DAYS * MICROS_PER_DAY
    agents = AGENTS if rank == 0 else max(2, AGENTS // (rank + 1))
    many = Fleet(agents, max(1, agents // 10), max(2, agents // 6), max(5, agents * 12))
    few = many._replace(agents=max(1, agents - AGENTS_IDLE * (rank == 0)))
    early = Traffic(rank, many, ordered_keys=True).calls(_instants(r for r in runs if r < turn))
    late = Traffic(-rank - 1, few, ordered_keys=True).calls(_instants(r for r in runs if r >= turn))
    for calls in (early, late):
        for part in batched_calls(calls):
            yield from sorted(part)


def batched_calls(calls: Iterator[Call]) -> Iterator[list[Call]]:
    """Yield `SORTED_CALLS` calls at a time."""
    while part := list(islice(calls, SORTED_CALLS)):
        yield part


def _instants(runs: Iterator[int]) -> Iterator[int]:
    for start in runs:
        for number in range(RUN_CALLS):
            yield start + number * CALL_MICROS
