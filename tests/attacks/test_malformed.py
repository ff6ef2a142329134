"""Bad bodies at every door: never a server error, never much work, never a wrong sum."""

import json
import resource
from collections.abc import Iterable

import pytest

from support.desk import Desk
from support.doors import DOORS, IMPORT, INGEST, LEDGER_DOORS, Door, Hit, throw
from support.hostile import around, packed, texts, wide

ENGINES = ("sqlite",)
"""What is attacked is the reading of bodies; databases have no part in it."""

CPU_S_MAX = 0.05
"""Processor time of one answer; asked twice where the machine was busy."""

CPU_S_MAX_LARGE = 0.5
"""The same for bodies of tens of megabytes, or numbers of a hundred thousand digits."""

MEMORY_KIB_MAX = 300 * 1024


def survive(
    desk: Desk, door: Door, bodies: Iterable[tuple[str, bytes]], *, cpu_s_max: float, is_packed: bool = False
) -> dict[str, Hit]:
    """Throw every body and return the hits; fail on a server error or a slow answer."""
    hits: dict[str, Hit] = {}
    for name, body in bodies:
        hit = throw(desk, door, body, packed=is_packed)
        if hit.cpu_s > cpu_s_max:
            hit = throw(desk, door, body, packed=is_packed)
        assert hit.status < 500, (door.path, name, hit.body[:300])
        assert hit.cpu_s <= cpu_s_max, (door.path, name, hit.cpu_s)
        hits[name] = hit
    return hits


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_broken_bodies_are_refused_at_every_door(desk: Desk, door: Door) -> None:
    hits = survive(desk, door, texts(door.valid), cpu_s_max=CPU_S_MAX)
    for name in ("bare value 0", "cut after 1", "overlong", "nul behind", "trailing garbage", "twice"):
        assert 400 <= hits[name].status < 500, name
        assert isinstance(json.loads(hits[name].body), dict)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_a_hostile_value_in_any_field_is_refused_or_taken(desk: Desk, door: Door) -> None:
    hits = survive(desk, door, around(door.item, door.wrap), cpu_s_max=CPU_S_MAX_LARGE)
    assert {hit.status // 100 for hit in hits.values()} == {2, 4} or door is IMPORT
    assert desk.violations() == ()


@pytest.mark.parametrize("door", LEDGER_DOORS, ids=lambda door: door.path)
def test_large_bodies_cost_little_and_leave_nothing(desk: Desk, door: Door) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrap = b'{"events":[%s]}' if door is not LEDGER_DOORS[1] else b'{"metadata":[%s]}'
    hits = survive(desk, door, wide(wrap), cpu_s_max=CPU_S_MAX_LARGE)
    assert all(hit.status in {413, 422} for hit in hits.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB_MAX


@pytest.mark.parametrize("door", LEDGER_DOORS, ids=lambda door: door.path)
def test_what_only_claims_to_be_gzip_is_refused(desk: Desk, door: Door) -> None:
    hits = survive(desk, door, packed(door.valid), cpu_s_max=CPU_S_MAX_LARGE, is_packed=True)
    assert all(400 <= hit.status < 500 for hit in hits.values() if hit is not hits["empty"])


def test_an_error_names_index_field_and_what_to_do(desk: Desk) -> None:
    body = b'{"events": [%s, {"agent_name": 5}]}' % json.dumps(INGEST.item).encode()
    answer = json.loads(throw(desk, INGEST, body).body)
    assert answer["detail"] == [
        {"loc": ["body", "events", 1, "provider"], "msg": "provider is required", "type": "value_error"}
    ]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_a_strangers_large_body_is_refused_unread(desk: Desk, door: Door) -> None:
    hit = throw(desk, door, b"[" + b"[]," * 3_000_000 + b"[]]", key="")
    assert hit.status in {401, 413}
    assert hit.cpu_s < CPU_S_MAX
