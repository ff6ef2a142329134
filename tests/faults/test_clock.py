"""Odd nights, ends of months and clocks that are set: each call counts in one window, none is opened twice.

Which day a call belongs to is worked out here by the standard library's zones alone. Long form
(`make faults`): thirty zones; short form: eight.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bursar.core.ids import new_id
from support.desk import Desk, open_desk
from support.engines import Database

ZONES = (
    "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Europe/Berlin", "America/Havana",
    "America/New_York", "America/St_Johns", "America/Asuncion", "America/Los_Angeles", "America/Halifax",
    "America/Nuuk", "Antarctica/Troll", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Tokyo",
    "Atlantic/Azores", "Australia/Adelaide", "Australia/Sydney", "Europe/Chisinau", "Europe/Dublin",
    "Europe/London", "Europe/Moscow", "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Easter",
    "Pacific/Kiritimati", "Africa/Casablanca", "Asia/Kolkata",
)  # fmt: skip
CHOSEN = ZONES if os.environ.get("BURSAR_TEST_LONG") == "1" else ZONES[:8]
YEAR = 2028
"""A leap year."""
MILLION = 1_000_000
COST = "0.001"
COST_NUSD = 1_000_000
WINDOWS = """SELECT b.name, w.starts_at, w.ends_at, w.state, w.settled, w.held
    FROM budget_window w JOIN budget b ON b.org = w.org AND b.id = w.budget ORDER BY b.name, w.starts_at"""
STEPS = (
    timedelta(hours=1), timedelta(), timedelta(hours=-1), timedelta(), timedelta(days=40), timedelta(hours=3),
    timedelta(days=41),
)  # fmt: skip
"""By how much the clock is off, one after the other: forward, back, far forward, back, and so on."""

pytestmark = pytest.mark.long


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def spend(desk: Desk, agent: str) -> bool:
    """Hold and settle a small amount; return whether there was room."""
    body = {"agent": agent, "model": "gpt-4o", "amount_usd": COST, "idempotency_key": new_id().hex()}
    held = desk.post("/v1/holds", body)
    assert held.status_code in {201, 402}, held.text
    if held.status_code == 402:
        return False
    settled = desk.post(f"/v1/holds/{held.json()['id']}/settle", {"cost_usd": COST})
    assert settled.status_code == 200, settled.text
    return True


def budget(desk: Desk, name: str, **fields: object) -> None:
    body = {"name": name, "scope": {"agent": name}, "limit": "50.00"} | fields
    answer = desk.post("/v1/budgets", body)
    assert answer.status_code == 201, answer.text


def moments(zone: ZoneInfo) -> list[datetime]:
    """Return instants about each change of a zone's clocks, its leap day, and ends of months."""
    begin = datetime(YEAR, 1, 1, tzinfo=UTC)
    hours = [begin + timedelta(hours=number) for number in range(366 * 24)]
    changes = [
        after
        for before, after in pairwise(hours)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
    ]
    midnights = [datetime(YEAR, month, day, tzinfo=zone) for month, day in ((2, 29), (3, 1), (7, 1))]
    about = (-90, -30, -1, 0, 30, 90, 24 * 60 - 30, 24 * 60 + 30)
    return [
        one.astimezone(UTC) + timedelta(minutes=minutes)
        for one in (*changes, *midnights)
        for minutes in about
    ]


def test_each_call_counts_on_its_zones_day(desk: Desk) -> None:
    zones = {name.replace("/", "-"): zone_of(name) for name in CHOSEN}
    plan = sorted((moment, name) for name, zone in zones.items() for moment in moments(zone))
    desk.now = micros(plan[0][0]) - MILLION
    for name, zone in zones.items():
        budget(desk, name, period="daily", timezone=zone.key)
        budget(desk, f"{name}-month", period="monthly", timezone=zone.key, scope={"agent": name})
    expected: Counter[tuple[str, date]] = Counter()
    for moment, name in plan:
        desk.now = max(desk.now, micros(moment))
        assert spend(desk, name)
        day = moment.astimezone(zones[name]).date()
        expected[name, day] += COST_NUSD
        expected[f"{name}-month", day.replace(day=1)] += COST_NUSD
    found: Counter[tuple[str, date]] = Counter()
    for name, starts_at, _, _, settled, _ in desk.rows(WINDOWS):
        zone = zones[str(name).removesuffix("-month")]
        day = datetime.fromtimestamp(int(str(starts_at)) / MILLION, zone).date()
        found[str(name), day] += int(str(settled))
    assert +found == expected
    assert_windows_tile(desk)
    assert desk.violations() == ()
    print(f"{len(plan)} calls in {len(zones)} zones of {YEAR}")  # noqa: T201


def test_a_clock_that_is_set_opens_no_window_again(desk: Desk) -> None:
    for period in ("hourly", "daily", "monthly", "total"):
        budget(desk, period, scope={"agent": "bot"}, period=period)
    spent = 0
    closed: dict[tuple[Any, Any], tuple[Any, ...]] = {}
    for step in STEPS:
        desk.clock_is_off = int(step.total_seconds()) * MILLION
        for _ in range(6):
            desk.advance(600)
            before = desk.rows("SELECT max(created_at) FROM hold")[0][0] or 0
            spent += spend(desk, "bot") * COST_NUSD
            [(latest,)] = desk.rows("SELECT max(created_at) FROM hold")
            assert int(str(latest)) >= int(str(before))
            rows = {(row[0], row[1]): row for row in desk.rows(WINDOWS)}
            assert {name: rows.get(name) for name in closed} == closed, "a closed window changed"
            closed = {name: row for name, row in rows.items() if row[3] == "closed"}
        assert_windows_tile(desk)
        assert desk.violations() == ()
    assert closed
    assert spent > len(STEPS) * COST_NUSD
    sums: Counter[str] = Counter()
    for name, _, _, _, settled, held in desk.rows(WINDOWS):
        sums[str(name)] += int(str(settled))
        assert held == 0
    # While the clock is in doubt a call counts in the windows before and after its step.
    assert sums.pop("total") == spent
    assert min(sums.values()) >= spent
    print(f"{len(STEPS)} steps, {spent // COST_NUSD} calls settled")  # noqa: T201


def assert_windows_tile(desk: Desk) -> None:
    """No two windows of a budget overlap."""
    ends: dict[object, int] = {}
    for name, starts_at, ends_at, *_ in desk.rows(WINDOWS):
        assert name not in ends or int(str(starts_at)) >= ends[name], name
        ends[name] = int(str(ends_at))


def zone_of(name: str) -> ZoneInfo:
    """Return a zone of the same edition of the database as the product's, whatever the machine has."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * MILLION)
