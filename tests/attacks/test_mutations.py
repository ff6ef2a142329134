"""Ten thousand spoiled bodies and questions, from a seed that is printed when one breaks us.

BURSAR_TEST_LONG=1 (`make faults`) throws ten times as many.
"""

import json
import os
import random
import re
import resource
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from bursar.http.v1.hot_schema import HOT_PATHS
from support.desk import Desk
from support.doors import EXPLAIN, HOLDS, IMPORT, KEYS, LEDGER_DOORS, PRICES, Door, throw
from support.hostile import STRINGS, mutated

ENGINES = ("sqlite",)
"""What is attacked is the reading of bodies; databases have no part in it."""

IS_LONG = os.environ.get("BURSAR_TEST_LONG") == "1"
SEED = 20_261_124
MUTATIONS = 100_000 if IS_LONG else 10_000
QUESTIONS = 20_000 if IS_LONG else 2_000
CPU_S_MAX = 0.05
"""Processor time of one answer; asked twice where the machine was busy."""

MEMORY_KIB_MAX = 100 * 1024
ENDS: dict[str, dict[str, object]] = {
    "settle": {"usage": {"input_tokens": 5, "output_tokens": 7}, "duration_ms": 3, "status": "ok"},
    "void": {"reason": "never sent"},
    "extend": {"deadline_s": 60},
}
"""What ends or prolongs a hold, and a valid body of each."""

SHARES = {"/v1/ingest": 0.5, "/v1/track": 0.15, "/v1/events": 0.15}

VALUES = (
    "2026-03-01 2026-13-01 0001-01-01 9999-12-31 2026-03-01T00:00:00Z 2026-W10 2026-03 hour day month UTC "
    "Europe/Berlin ../UTC model agent,model cost_usd 10 -1 0 1e9 NaN true null (none) * % AAAA"
)

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "door", [*LEDGER_DOORS, HOLDS, KEYS, PRICES, EXPLAIN, IMPORT], ids=lambda door: door.path
)
def test_no_spoiled_body_breaks_a_door(desk: Desk, door: Door) -> None:
    count = int(MUTATIONS * SHARES.get(door.path, 0.05))
    bodies = [door.valid, (door.wrap % json.dumps({**door.item, "unknown": [1, {"k": "v"}]})).encode()]
    statuses: set[int] = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, body in enumerate(mutated(bodies, SEED, count)):
        hit = throw(desk, door, body)
        if hit.cpu_s > CPU_S_MAX:
            hit = throw(desk, door, body)
        assert hit.cpu_s <= CPU_S_MAX, f"seed {SEED}, body {number}: {body!r} took {hit.cpu_s} s"
        assert hit.status < 500, f"seed {SEED}, body {number}: {body!r} gave {hit.body!r}"
        assert isinstance(json.loads(hit.body), dict)
        statuses.add(hit.status)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB_MAX
    assert desk.violations() == ()
    assert statuses & {200, 201, 202}
    assert 422 in statuses


def test_no_strange_question_breaks_a_reading_route(desk: Desk) -> None:
    for number, (path, params) in enumerate(_questions(desk)):
        answer = desk.get(path, **params)
        # 501: what needs a payment provider says that there is none.
        is_sound = answer.status_code < 500 or answer.status_code == 501
        assert is_sound, f"seed {SEED}, question {number}: {path} {params} gave {answer.text}"


def _questions(desk: Desk) -> Iterator[tuple[str, dict[str, str]]]:
    """Ask each reading route with some of its parameters, most values hostile, some of another route."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable
    texts = [json.loads(text)[:3000] for text in STRINGS if text.isprintable() and _is_json(text)]
    values = [*VALUES.split(), *(text.encode(errors="replace").decode() for text in texts), "9" * 400]
    names = {
        path: [parameter["name"] for parameter in get.get("parameters", ()) if parameter["in"] == "query"]
        for path, operations in desk.get("/openapi.json").json()["paths"].items()
        if (get := operations.get("get")) and path != "/metrics"
    }
    others = [name for listed in names.values() for name in listed]
    for _ in range(QUESTIONS):
        path = chance.choice(list(names))
        own = chance.sample(names[path], min(len(names[path]), chance.randint(0, 4)))
        filled = re.sub(r"\{[^}]*\}", lambda _match: quote(chance.choice(values), safe=""), path)
        yield filled, {name: chance.choice(values) for name in (*own, chance.choice(others))}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("verb", list(ENDS))
def test_no_spoiled_body_breaks_the_end_of_a_hold(desk: Desk, verb: str) -> None:
    hold = desk.post("/v1/holds", {"agent": "a", "model": "gpt-4o", "amount_usd": "1"}).json()
    door = Door("POST", f"/v1/holds/{hold['id']}/{verb}", ENDS[verb])
    statuses = {throw(desk, door, body).status for body in mutated([door.valid], SEED, MUTATIONS // 20)}
    assert statuses <= {200, 409, 413, 422}
    assert 422 in statuses
    assert desk.violations() == ()


def test_every_hot_door_is_attacked() -> None:
    ends = {f"/v1/holds/{{hold_id}}/{verb}" for verb in ENDS}
    assert {door.path for door in (*LEDGER_DOORS, HOLDS)} | ends == set(HOT_PATHS)
