"""What a ledger answers on SQLite it answers on PostgreSQL, to the letter: it is moved and asked again.

What was written has what engines differ in: names that only case or accents tell apart, signs with a
meaning in SQL, equal costs, names that are not given, calls out of hours and months, all states of holds.
"""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from bursar.core.time import text_from_micros
from support.desk import NOW, Desk, event, open_desk
from support.engines import Database, temporary_database
from support.program import bursar

ENGINES = ("sqlite",)
"""PostgreSQL is what it is moved to."""

SEED = 20261125
DAY = 86_400_000_000
PAGES_MAX = 40

AGENTS = (
    "alpha",
    "Alpha",
    "\u00e4lter",
    "\u00dfig",
    "a_b",
    "a%b",
    "a'b",
    'quo"te',
    "10",
    "9",
    "z" * 200,
    "back\\u0000slash",
    "back\\slash",
)
MODELS = (("openai", "gpt-4o"), ("openai", "GPT-4o"), ("anthropic", "claude-sonnet-4-5"), ("own", "unlisted"))
RUNS = ("r1", "R1", "11111111-1111-4111-8111-111111111111")
BUDGETS = (
    {"name": "all", "scope": {}, "limit": "100.00", "period": "monthly"},
    {"name": "low", "scope": {"agent": "alpha"}, "limit": "0.02", "period": "hourly"},
    {"name": "daily", "scope": {"agent": "bot"}, "limit": "1.00"},
    {"name": "run", "scope": {"agent": "bot"}, "limit": "1", "period": "run"},
    {"name": "session", "scope": {"project": "p1"}, "limit": "2", "period": "session_5h"},
    {"name": "tokens", "scope": {"user": "U"}, "metric": "tokens_total", "limit": "100000"},
)
SPANS = (
    {"from": "2026-01-20T00:00:00Z", "to": "2026-03-04T00:00:00Z"},
    {"from": "2026-01-31T10:30:00Z", "to": "2026-02-20T10:17:03Z"},
    {"from": "2026-02-01T00:00:00Z", "to": "2026-03-03T00:00:00Z", "zone": "Asia/Kolkata"},
)
DIMENSIONS = ("agent", "model", "provider", "project", "feature", "user", "run", "billing")
FILTERS = (
    {},
    *({"agent": name} for name in AGENTS),
    *({"model": name} for name in ("gpt-4o", "GPT-4o", "gpt-4O")),
    *({"run": name} for name in RUNS),
    *({dimension: "(none)"} for dimension in ("project", "run")),
    {"provider": "openai", "project": "p1"},
    {"user": "u"},
    {"feature": "f%"},
    {"billing": "subscription"},
)


class Question(NamedTuple):
    path: str
    params: tuple[tuple[str, str], ...]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Database]:
    with temporary_database("postgres", tmp_path / "target") as made:
        yield made


def test_a_ledger_that_was_moved_gives_the_same_answers(database: Database, target: Database) -> None:
    with open_desk(database) as desk:
        budgets, holds = written(desk, random.Random(SEED))  # noqa: S311 - made-up data
        before = dict(answers(desk, questions(budgets, holds)))
        desk.close()
        moved = bursar("move", "--from", f"sqlite:{database.folder}", "--to", target.settings["database_url"])
        assert moved.code == 0, moved.talk
        desk.start_on(target)
        different = [(one, was, now) for one, was in before.items() if (now := asked(desk, one)) != was]
    assert different == []
    codes = [code for code, _ in before.values()]
    assert codes.count(200) > 0.9 * len(codes)


def written(desk: Desk, chance: random.Random) -> tuple[list[str], list[str]]:
    """Fill a ledger; return the ids of its budgets and holds."""
    budgets = [desk.post("/v1/budgets", body).json()["id"] for body in BUDGETS]
    for _ in range(6):
        sent = desk.ingest(*(some_event(chance) for _ in range(40)))
        assert sent.status_code == 202, sent.text
    holds = []
    for number in range(40):
        amount = chance.choice(("0.001", "0.01", "0.3"))
        body = {
            "agent": chance.choice(("bot", "alpha", "\u00e4lter")),
            "model": "gpt-4o",
            "amount_usd": amount,
        }
        body |= chance.choice(({}, {"project": "p1"}, {"run": "r1"}))
        answer = desk.post("/v1/holds", body)
        if answer.status_code == 201:
            holds.append(str(answer.json()["id"]))
            cost = chance.choice(("0.001", "0.02", "0.4"))
            end = chance.choice((("settle", {"cost_usd": cost}), ("void", {}), None))
            if end is not None:
                desk.post(f"/v1/holds/{holds[-1]}/{end[0]}", end[1])
        if number % 5 == 0:
            desk.advance(chance.choice((1, 600, 3600)))
            now = text_from_micros(desk.now)
            desk.ingest(*(event(agent_name="bot", cost=0.05, timestamp=now) for _ in range(3)))
    for action in ("alpha/pause", "bot/kill"):
        assert desk.post(f"/v1/agents/{action}", {"reason": "to see it"}).status_code == 200
    desk.advance(1)
    return budgets, holds


def some_event(chance: random.Random) -> dict[str, object]:
    """Return an event; many have the same cost, the same instant or the same key."""
    at = NOW - chance.randrange(40) * DAY - chance.choice((0, 1, 1_800_000_000, 86_399_999_999))
    provider, model = chance.choice(MODELS)
    given: dict[str, object] = {
        "agent_name": chance.choice(AGENTS),
        "provider": provider,
        "model": model,
        "input_tokens": chance.choice((0, 1, 1500)),
        "output_tokens": chance.choice((0, 800)),
        "cost": chance.choice((0, 0, 0.001, 1.5)),
        "timestamp": text_from_micros(at),
    }
    others: dict[str, tuple[object, ...]] = {
        "project": ("p1", "P1", "\u00f6"),
        "feature": ("f1", "F1", "f%"),
        "user": ("u", "U", "\u00fc"),
        "run_id": RUNS,
        "parent_run_id": ("r1", "root", RUNS[-1]),
        "status": ("error",),
        "billing_type": ("subscription",),
        "duration_ms": (0, 1000),
        "idempotency_key": tuple(f"key {number}" for number in range(60)),
    }
    given |= {name: chance.choice(values) for name, values in others.items() if chance.random() < 0.35}
    return event(**given)


def questions(budgets: list[str], holds: list[str]) -> Iterator[Question]:
    """Give what is asked of either engine."""
    yield from of_reports()
    yield from of_lists()
    yield from of_agents()
    yield from of_budgets(budgets)
    for hold in holds:
        yield question(f"/v1/holds/{hold}")


def of_reports() -> Iterator[Question]:
    for span, by, more in product(SPANS, DIMENSIONS, FILTERS[:: len(FILTERS) - 1]):
        yield question("/v1/costs", span, more, groupBy=by)
        yield question("/v1/reports/breakdown", span, more, by=by, limit="1000")
        yield question("/v1/reports/top", span, more, by=by, limit="2")
        yield question("/v1/reports/series", span, more, by=by, granularity="day")
    for span, more in product(SPANS, FILTERS):
        yield question("/v1/costs", span, more)
        yield question("/v1/reports/series", span, more, granularity="hour")
        if more.keys() <= {"agent", "model", "run", "project"}:
            yield question("/v1/events", span, more, limit="50")
    for reach in ("7d", "30d"):
        yield question("/v1/dashboard/overview", range=reach)
        yield question("/v1/dashboard/stats", range=reach)
    for granularity in ("hourly", "daily"):
        yield question("/v1/dashboard/spend", granularity=granularity, days="30")


def of_lists() -> Iterator[Question]:
    for path, limit in product(
        ("budgets", "holds", "gates", "incidents", "prices", "models/unpriced", "alerts/configs", "audit",
         "quarantine", "agents"),
        ("3", "100"),
    ):  # fmt: skip
        yield question(f"/v1/{path}", limit=limit)
    for path in ("models", "pricing", "org/budgets", "settings", "billing/plan", "alerts", "audit/export"):
        yield question(f"/v1/{path}")
    for state, kind in product(("open", "settled", "voided", "expired", "suspense"), ("call", "lease")):
        yield question("/v1/holds", state=state, kind=kind, limit="3")
    for action in ("budget.*", "*", "hold.*"):
        yield question("/v1/audit", action=action, **{"from": "2026-03-01T00:00:00Z"})


def of_agents() -> Iterator[Question]:
    for name in (*AGENTS, "bot", "nobody"):
        path = f"/v1/agents/{quote(name, safe='')}"
        for below in ("", "/budgets", "/runs", "/alerts", "/configs", "/events"):
            yield question(f"{path}{below}")
        yield question("/v1/holds", agent=name)
        yield question("/v1/budgets", agent=name)
    for run in (*RUNS, "root", "unknown"):
        yield question(f"/v1/runs/{run}")
        yield question(f"/v1/runs/{run}/events", limit="5")


def of_budgets(budgets: list[str]) -> Iterator[Question]:
    for budget in budgets:
        yield question("/v1/holds", budget=budget, limit="3")
        for below in ("", "/windows", "/alerts"):
            yield question(f"/v1/budgets/{budget}{below}")
        for moment in ({}, {"at": "2026-03-02T01:30:00Z"}, {"at": "2026-03-02T00:00:10Z"}):
            yield question(f"/v1/budgets/{budget}/explain", moment, limit="2")
            yield question(f"/v1/budgets/{budget}/explain", moment, run="r1")


def question(path: str, *given: dict[str, str], **more: str) -> Question:
    params: dict[str, str] = {}
    for some in (*given, more):
        params |= some
    return Question(path, tuple(params.items()))


def asked(desk: Desk, one: Question) -> tuple[int, str]:
    answer = desk.get(one.path, **dict(one.params))
    return answer.status_code, answer.text


def answers(desk: Desk, first: Iterator[Question]) -> Iterator[tuple[Question, tuple[int, str]]]:
    """Give each question with its answer, and those for the pages that follow."""
    for one in first:
        page = one
        for _ in range(PAGES_MAX):
            answer = desk.get(page.path, **dict(page.params))
            yield page, (answer.status_code, answer.text)
            document = answer.json() if "json" in answer.headers["content-type"] else None
            following = document.get("next_cursor") if isinstance(document, dict) else None
            if not following:
                break
            page = question(one.path, dict(one.params), cursor=following)
