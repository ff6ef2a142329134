"""Bodies with fields that are not the caller's to set: ignored or refused, and nowhere in the file."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from matrix_rows import ROWS, path_of
from matrix_sides import Sides, actors, filled, furnish, rows_of, sender_of

from support.desk import Desk, event, open_desk
from support.engines import Database

NUMBER, WORD, LONG_AGO = 987_654_321, "planted", "1999-01-01T00:00:00Z"
PLANTED: dict[str, object] = {
    "org": NUMBER, "number": NUMBER, "epoch": NUMBER, "seq": NUMBER, "batch": NUMBER, "max_agents": NUMBER,
    "events_per_day": NUMBER, "burst_per_s": NUMBER, "settled": str(NUMBER), "settled_nusd": NUMBER,
    "held": str(NUMBER), "remaining": str(NUMBER), "used": NUMBER, "current_usage": NUMBER,
    "id": WORD, "tier": WORD, "plan": WORD, "source": WORD, "actor": WORD, "created_by": WORD, "prefix": WORD,
    "inviter": WORD, "hash": WORD, "password_hash": WORD, "raw_key": WORD, "cost_basis": WORD,
    "created_at": LONG_AGO, "deleted_at": LONG_AGO, "verified_at": LONG_AGO, "granted_at": LONG_AGO,
    "role": "owner", "roles": ["owner"], "scopes": ["admin"], "subscription_status": "cancelled",
    "is_active": False, "is_admin": True, "is_operator": True, "is_template": True, "disabled": True,
    "verified": True, "state": "settled", "resolution": "raised",
}  # fmt: skip
OF_THE_OTHER = {
    "org_id": "organisation", "orgId": "organisation", "organisation_id": "organisation",
    "organization_id": "organisation", "organisation": "organisation", "tenant_id": "organisation",
    "user_id": "user", "owner": "user", "key_id": "key", "budget_id": "budget",
}  # fmt: skip

KEEPS_ANYTHING = {("event", "attributes"), ("event", "extra")}
"""Columns that keep what a client says beside the fields that we know: it may say what it likes."""

MAKES_OWNERS = {"POST /v1/auth/register", "POST /v1/organisations"}
SKIPPED = {
    "POST /v1/auth/change-password",
    "POST /v1/auth/switch",
    "PATCH /v1/organisations/{organisation_id}",
}
"""Those that end the session, and the operator's own door to plans and quotas."""


@pytest.fixture(scope="module")
def sides(module_database: Database) -> Iterator[Sides]:
    with open_desk(module_database) as desk:
        desk.ingest(event())
        yield Sides(desk)


def test_no_body_sets_what_is_not_its_senders_to_set(sides: Sides) -> None:
    desk = sides.desk
    people = actors(desk)
    own = furnish(desk, desk.org, desk.key, "mine", "own-hidden")
    theirs = rows_of(desk, sides.org)
    taken = 0
    for label, row in ROWS.items():
        if not isinstance(row.body, dict) or label in SKIPPED:
            continue
        method, path = label.split(" ", 1)
        before = _guarded(desk)
        for body in _bodies(filled(row.body, own), sides.theirs, is_dear=path.startswith("/v1/auth/")):
            sender = sender_of(row, people)
            answer = desk.send(method, path_of(path, own), key=sender, json=body)
            assert answer.status_code < 500, (label, answer.text)
            taken += answer.status_code < 300
        after = _guarded(desk)
        made = {name: [one for one in after[name] if one not in before[name]] for name in after}
        gone = {name: [one for one in before[name] if one not in after[name]] for name in after}
        if label not in MAKES_OWNERS:
            assert made["membership"] == [] or "members" in label, (label, made)
            assert all(one[2] != "owner" for one in made["membership"]), (label, made)
        assert gone["organisation"] == gone["membership"] == [], (label, gone)
        assert _planted(desk) <= KEEPS_ANYTHING, label
    assert taken > 100
    assert _planted(desk), "the search finds what is kept on purpose"
    assert {name for name, rows in rows_of(desk, sides.org).items() if rows != theirs[name]} == set()
    assert desk.violations() == ()


def _bodies(body: dict[str, Any], theirs: dict[str, str], *, is_dear: bool) -> Iterator[dict[str, Any]]:
    """Give the body with all planted fields at once, and with each of them alone, in each of its objects.

    Of dear requests, which hash a password or are throttled, only those with all at once.
    """
    fields = PLANTED | {field: theirs[kind] for field, kind in OF_THE_OTHER.items()}
    for place in range(len(_objects(body))):
        for chosen in [fields, *([] if is_dear else [{name: value} for name, value in fields.items()])]:
            changed = copy.deepcopy(body)
            target = _objects(changed)[place]
            added = {name: value for name, value in chosen.items() if name not in target}
            target.update(added)
            if added:
                yield changed


def _objects(part: object) -> list[dict[str, Any]]:
    """Return every object of a body, the outermost first."""
    if isinstance(part, list):
        return [found for one in part for found in _objects(one)]
    if not isinstance(part, dict):
        return []
    return [part, *(found for one in part.values() for found in _objects(one))]


def _guarded(desk: Desk) -> dict[str, list[tuple[object, ...]]]:
    """Return the tables that say who may do what."""
    return {
        "organisation": desk.rows("SELECT * FROM organisation"),
        "membership": desk.rows("SELECT org, user, role FROM membership"),
    }


def _planted(desk: Desk) -> set[tuple[str, str]]:
    """Return the tables and columns where a planted value lies."""
    found = set()
    for table, columns in desk.database.columns().items():
        for row in desk.rows(f"SELECT * FROM {table}"):
            for column, cell in zip(columns, row, strict=True):
                text = cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)
                if any(planted in text for planted in (WORD, str(NUMBER), "1999-01-01")):
                    found.add((table, column))
    return found
