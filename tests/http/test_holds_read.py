"""Holds as lists and one by one: filters, pages that end, bindings, and both roads to a request."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from holding import MISSING, budget, held, settle, void

from bursar.budgets.hold import HoldState
from bursar.core.ids import Org, text_from_id
from bursar.enforcement.hold_reading import HoldQuery
from bursar.http.v1 import hold_form
from bursar.http.v1.hold_body import HoldDecoder
from bursar.identity.keys import Scope
from bursar.storage.sql.hold_lists import SqlHoldReader
from bursar.web.principal import Principal
from support.desk import Desk, open_desk
from support.engines import Database


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def ids(desk: Desk, key: str | None = None, **params: str) -> list[str]:
    """Return the ids of every page, one after the other."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        answer = desk.get("/v1/holds", key=key, **params, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [hold["id"] for hold in page["data"]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            return found
        cursor = {"cursor": page["next_cursor"]}
    raise AssertionError("the pages do not end")


def some(desk: Desk) -> dict[str, Any]:
    """Make holds of several agents in several states."""
    first = budget(desk, "100.00", on_expiry="suspense", period="total")
    second = budget(desk, "100.00", name="other", scope={"agent": "other"})
    holds = {
        "open": held(desk, deadline_s=60),
        "settled": held(desk),
        "voided": held(desk),
        "other": held(desk, agent="other", project="p"),
        "suspense": held(desk, deadline_s=1, grace_s=0),
        "expired": held(desk, agent="other", deadline_s=1, grace_s=0),
    }
    settle(desk, holds["settled"], "0.05")
    void(desk, holds["voided"])
    desk.advance(2)
    return {
        "first": first["id"],
        "second": second["id"],
        **{name: hold["id"] for name, hold in holds.items()},
    }


@pytest.mark.parametrize("limit", ["1", "2", "200"])
def test_each_filter_finds_its_holds_page_by_page(desk: Desk, limit: str) -> None:
    made = some(desk)
    everything = [made[name] for name in ("expired", "suspense", "other", "voided", "settled", "open")]
    assert ids(desk, limit=limit) == everything
    for state in ("settled", "voided", "suspense", "expired"):
        assert ids(desk, limit=limit, state=state) == [made[state]]
    # The one that lasts longest comes first.
    assert ids(desk, limit=limit, state="open") == [made["other"], made["open"]]
    assert ids(desk, limit=limit, agent="other") == [made["expired"], made["other"]]
    assert ids(desk, limit=limit, budget=made["second"]) == [made["expired"], made["other"]]
    assert ids(desk, limit=limit, budget=made["first"], state="open") == [made["open"]]
    assert ids(desk, limit=limit, kind="lease") == []
    assert ids(desk, limit=limit, kind="call") == everything
    assert ids(desk, limit=limit, agent="nobody") == []


@pytest.mark.parametrize("state", [None, HoldState.OPEN])
def test_a_page_looks_at_a_bounded_number_of_rows_and_goes_on_behind_them(
    desk: Desk, state: HoldState | None
) -> None:
    wanted = held(desk, agent="rare")
    for _ in range(7):
        held(desk)
    reader = SqlHoldReader(desk.treasury.engine.readers, walked_max=3)
    query = HoldQuery(agent="rare", state=state)
    pages = [desk.run(reader.page(desk.org, query))]
    while pages[-1].following is not None:
        pages.append(desk.run(reader.page(desk.org, query._replace(before=pages[-1].following))))
    assert [len(page.holds) for page in pages] == [0, 0, 1]
    assert text_from_id("hold", pages[-1].holds[0].hold.id) == wanted["id"]


def test_a_hold_is_found_by_its_key_within_the_other_filters(desk: Desk) -> None:
    hold = held(desk, key="mine")
    held(desk)
    assert ids(desk, idempotency_key="mine") == [hold["id"]]
    assert ids(desk, idempotency_key="mine", state="open") == [hold["id"]]
    assert ids(desk, idempotency_key="mine", state="settled") == []
    assert ids(desk, idempotency_key="mine", agent="else") == []
    assert ids(desk, idempotency_key="other") == []


def test_one_hold_shows_its_windows_as_they_are_now(desk: Desk) -> None:
    budget(desk)
    hold = held(desk, "0.30")
    held(desk, "0.20")
    shown = desk.get(f"/v1/holds/{hold['id']}").json()
    assert (shown["windows"][0]["amount"], shown["windows"][0]["held"]) == ("0.30", "0.50")
    assert "idempotency_key" not in shown
    assert {name: value for name, value in shown.items() if name != "windows"} == {
        name: value for name, value in hold.items() if name != "windows"
    }


def test_a_bound_reader_sees_its_own_holds_only(desk: Desk) -> None:
    own, other = held(desk, key="own"), held(desk, key="other", agent="other", project="p")
    reader = desk.new_key(Scope.READ, agent="bot")
    assert ids(desk, reader) == [own["id"]]
    assert ids(desk, reader, idempotency_key="other") == []
    assert desk.get(f"/v1/holds/{own['id']}", key=reader).status_code == 200
    assert desk.get(f"/v1/holds/{other['id']}", key=reader).status_code == 404
    assert desk.get("/v1/holds", key=reader, agent="other").status_code == 403
    projects = desk.new_key(Scope.READ, project="p")
    assert ids(desk, projects) == [other["id"]]


def test_another_organisation_sees_nothing(desk: Desk) -> None:
    hold = held(desk, key="k")
    key = desk.new_key(org=desk.organisation("other"))
    assert ids(desk, key) == ids(desk, key, idempotency_key="k") == ids(desk, key, state="open") == []
    foreign = desk.get(f"/v1/holds/{hold['id']}", key=key)
    missing = desk.get(f"/v1/holds/{MISSING}", key=key)
    assert (foreign.status_code, foreign.json()) == (404, missing.json())


def test_reading_needs_the_scope_read(desk: Desk) -> None:
    key = desk.new_key(Scope.INGEST)
    assert desk.get("/v1/holds", key=key).status_code == 403
    assert desk.get(f"/v1/holds/{MISSING}", key=key).status_code == 403


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"cursor": "%%%"}, "cursor"), ({"cursor": "AAAA"}, "cursor"), ({"cursor": "/" * 32}, "cursor"),
        ({"budget": "nonsense"}, "budget"), ({"state": "lost"}, "query.state"), ({"kind": "x"}, "query.kind"),
        ({"limit": "0"}, "query.limit"), ({"limit": "201"}, "query.limit"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_wrong(desk: Desk, params: dict[str, str], field: str) -> None:
    answer = desk.get("/v1/holds", **params)
    assert answer.status_code == 422
    assert field.rsplit(".", maxsplit=1)[-1] in answer.json()["field"]


def test_half_a_character_is_replaced_and_the_repeat_is_the_same(desk: Desk) -> None:
    body = (
        rb'{"agent": "bot", "model": "gpt-4o", "amount_usd": 0.10, "user": "a\ud83d", "idempotency_key": "k"}'
    )
    first, again = (desk.send("POST", "/v1/holds", content=body) for _ in range(2))
    assert (first.status_code, first.json()["user"]) == (201, "a\ufffd")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


WHOLE: list[dict[str, object]] = [
    {"agent": "bot", "model": "m", "amount_usd": 0.1},
    {"agent": "bot", "model": "m", "amount_usd": "1e-3", "project": "", "run": "r", "user": None},
    {
        "agent": "bot", "model": "m", "provider": "openai", "session": "s", "parent_run": "p",
        "usage": {"input_tokens": 5, "cache_write_5m_tokens": 2, "max_output_tokens": 7},
        "ceiling_usd": 12345678.123456789, "tags": {"b": "2", "a": "1"}, "deadline_s": 60.5, "grace_s": 0,
        "allow_smaller": True, "min_output_tokens": 3, "depth": 4, "fingerprint": "f", "idempotency_key": "k",
        "service_tier": "batch",
    },
]  # fmt: skip


@pytest.mark.parametrize("body", WHOLE)
def test_both_roads_come_to_the_same_request(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    principal = Principal(Org(1), "key", frozenset())
    quick, careful = (
        HoldDecoder().asked(road(raw), "k", principal, 5)
        for road in (hold_form.quick_body, hold_form.careful_body)
    )
    assert quick == careful
