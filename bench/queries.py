"""What it takes to ask the largest organisation of a filled ledger something.

Each question is asked over one kept connection and, for the sums, in process as well; the
median counts and the first one is told. Dates are UTC days that end where the file ends.
"""

import asyncio
import http.client
import json
import shutil
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlencode

from bursar.analytics.query import Dim, Query, Span
from bursar.analytics.slices import Granularity, slices
from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.core.zones import parse_zone
from bursar.storage.sql.reports import SqlReports
from bursar.storage.sqlite.connection import open_reader
from bursar.storage.sqlite.readers import SqliteReaders
from filled import AGENTS, AGENTS_IDLE, Filled, copied
from quiet import wait
from results import Figure, Results
from server import Server, serving

ASKED = 31
LARGEST = Org(1)


class Question(NamedTuple):
    """One question over HTTP, and the milliseconds it may take."""

    name: str
    path: str
    target_ms: float | None = None


class Took(NamedTuple):
    """Milliseconds: the first time, and the median and the slowest of the others."""

    first: float
    middle: float
    slowest: float


def queries(work: Path, results: Results, original: Filled) -> None:
    """Ask everything of a copy of the filled ledger."""
    ledger = copied(original, work / "filled")
    with serving(Path(ledger.folder)) as server:
        for question in questions(ledger.ends_at):
            wait()
            took, rows = ask(server, question.path, ledger.key)
            notes: dict[str, float | str] = {"first": took.first, "slowest": took.slowest, "rows": rows}
            name = f"{question.name}, over HTTP"
            results.add(Figure(name, took.middle, "ms", question.target_ms, at_least=False, notes=notes))
    for name, target, query in sums(ledger.ends_at):
        took = asyncio.run(_ask_in_process(ledger.path, query))
        notes = {"first": took.first, "slowest": took.slowest}
        results.add(Figure(f"{name}, in process", took.middle, "ms", target, at_least=False, notes=notes))
    shutil.rmtree(ledger.folder)


def questions(ends_at: int) -> list[Question]:
    """Return what is asked over HTTP; the last day is the one before `ends_at`."""

    def days(count: int) -> dict[str, str]:
        return {"from": _day(ends_at - count * MICROS_PER_DAY), "to": _day(ends_at - 1)}

    def newest(agent: int) -> str:
        return _path("/v1/events", agent=f"agent-{agent:03d}", limit="50")

    cut = {
        "from": text_from_micros(ends_at - 30 * MICROS_PER_DAY - 7 * MICROS_PER_MINUTE),
        "to": text_from_micros(ends_at - 11 * MICROS_PER_MINUTE),
    }
    series = _path("/v1/reports/series", granularity="hour", **days(7))
    return [
        Question("costs by model, 30 days", _path("/v1/costs", groupBy="model", **days(30)), 30),
        Question("costs by model, 30 days that cut two hours", _path("/v1/costs", groupBy="model", **cut)),
        Question("costs by agent, 30 days", _path("/v1/costs", groupBy="agent", **days(30))),
        Question("hourly series, 7 days", series, 5),
        Question("newest 50 events of the busiest agent", newest(0), 5),
        Question("newest 50 events of a sparse agent", newest(AGENTS - AGENTS_IDLE - 1), 20),
        Question("newest 50 events of an agent idle for 80 days", newest(AGENTS - 1), 20),
    ]


def sums(ends_at: int) -> list[tuple[str, float, Query]]:
    """Return name, target and query of what is asked in process."""
    month, week = (Span(ends_at - days * MICROS_PER_DAY, ends_at) for days in (30, 7))
    hours = tuple(piece.span for piece in slices(Granularity.HOUR, parse_zone("UTC"), week))
    assert len(hours) == 7 * MICROS_PER_DAY // MICROS_PER_HOUR
    return [
        ("costs by model, 30 days", 30, Query(LARGEST, month, (Dim.MODEL,))),
        ("hourly series, 7 days", 5, Query(LARGEST, week, slices=hours)),
    ]


def ask(server: Server, path: str, key: str) -> tuple[Took, int]:
    """Ask `ASKED` times over one connection; also return how many rows came."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    times: list[float] = []
    rows = 0
    for _ in range(ASKED):
        begin = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        times.append(time.perf_counter() - begin)
        assert answer.status == 200, body
        rows = len(json.loads(body)["data"])
    connection.close()
    assert rows > 0, f"{path} found nothing"
    return _took(times), rows


async def _ask_in_process(path: Path, query: Query) -> Took:
    readers = SqliteReaders(partial(open_reader, path))
    reports = SqlReports(readers)
    times: list[float] = []
    for _ in range(ASKED):
        begin = time.perf_counter()
        report = await reports.report(query)
        times.append(time.perf_counter() - begin)
        assert report.rows
    readers.close()
    return _took(times)


def _took(times: list[float]) -> Took:
    first, *others = (seconds * 1e3 for seconds in times)
    return Took(first, median(others), max(others))


def _day(micros: int) -> str:
    return text_from_micros(micros)[:10]


def _path(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode(parameters)}"
