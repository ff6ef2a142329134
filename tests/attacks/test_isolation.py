"""Two organisations in one file: no route, id or filter lets the one see or touch the other.

The routes come from the OpenAPI document, so a new one is attacked as soon as it is there.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from bursar.core.ids import Org, new_id, text_from_id
from bursar.http.v1.hot_schema import HOT_PATHS
from bursar.identity.keys import Scope
from bursar.identity.people import Decider
from bursar.identity.roles import Role
from support.desk import Desk, event, open_desk

CANARY = "canary-of-the-other"
UNKNOWN = "nobodys-name"


class Other(NamedTuple):
    """The other organisation, and everything of it that somebody could name."""

    org: Org
    key: str
    names: dict[str, str]
    """What it has, and beside it something of the same form that nobody has."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Other]]:
    with open_desk(tmp_path_factory.mktemp("two") / "data") as desk:
        desk.ingest(event(), event(model="unknown-to-all"))
        yield desk, _other(desk)


def _other(desk: Desk) -> Other:
    org = desk.organisation("other")
    key = desk.new_key(org=org)
    names = {field: f"{CANARY}-{field}" for field in ("agent_name", "project", "feature", "user", "run_id")}
    desk.ingest(
        event(**names, idempotency_key=CANARY, model=f"{CANARY}-model", provider=f"{CANARY}-provider",
              prompt=f"{CANARY} prompt", extra=CANARY),
        key=key,
    )  # fmt: skip
    (seen,) = desk.get("/v1/events", key=key).json()["data"]
    key_id = desk.post("/v1/keys", {"name": CANARY}, key=key).json()["id"]
    price = {"pattern": f"{CANARY}-model", "percent": -10}
    price_id = desk.post("/v1/prices", price, key=key).json()["id"]
    budget = {"name": CANARY, "scope": {"agent": names["agent_name"]}, "limit": "1"}
    budget_id = desk.post("/v1/budgets", budget, key=key).json()["id"]
    asked = {"agent": names["agent_name"], "model": f"{CANARY}-model", "amount_usd": "1"}
    hold_id = desk.post("/v1/holds", asked, key=key).json()["id"]
    assert desk.post("/v1/holds", asked, key=key).status_code == 402
    (incident,) = desk.get("/v1/incidents", key=key).json()["data"]
    desk.post(f"/v1/agents/{names['agent_name']}/pause", {"reason": CANARY}, key=key)
    desk.send("PUT", "/v1/imports/cursors/table", key=key, json={"cursor": CANARY})
    people = desk.treasury.identity.people
    operator = Decider("operator", None, is_operator=True)
    email = f"{CANARY}@example.com"
    user = desk.run(people.add_verified(org, email, "correct horse battery", Role.OWNER, by=operator)).user
    token, _ = desk.run(people.create_token(user.id, CANARY))
    invitation = desk.run(people.invite(org, email, Role.MEMBER, by=operator)).invitation
    organisation = desk.one("SELECT id FROM organisation WHERE org = ?", org)[0]
    agent = desk.one("SELECT id FROM agent WHERE org = ? AND name LIKE 'canary%'", org)[0]
    project = desk.one("SELECT id FROM project WHERE org = ? AND name LIKE 'canary%'", org)[0]
    own = {
        seen["id"]: "evt",
        hold_id: "hold",
        budget_id: "bud",
        incident["id"]: "inc",
        key_id: "key",
        price_id: price_id.split("_")[0],
        text_from_id("usr", user.id): "usr",
        text_from_id("tok", token.id): "tok",
        text_from_id("inv", invitation.id): "inv",
        text_from_id("org", bytes(organisation)): "org",
        text_from_id("agt", bytes(agent)): "agt",
        text_from_id("prj", bytes(project)): "prj",
    }
    unlike = {name: text_from_id(prefix, new_id()) for name, prefix in own.items()}
    texts = [
        *names.values(),
        CANARY,
        email,
        f"{CANARY}-model",
        f"{CANARY}-provider",
        f"{CANARY}-provider/{CANARY}-model",
    ]
    return Other(org, key, unlike | {name: name.replace(CANARY, UNKNOWN) for name in texts})


def _operations(desk: Desk) -> list[tuple[str, str, list[str]]]:
    document = desk.get("/openapi.json").json()
    return [
        (method.upper(), path, [one["name"] for one in found.get("parameters", ()) if one["in"] == "query"])
        for path, operations in document["paths"].items()
        for method, found in operations.items()
    ]


def _rows(desk: Desk, org: Org) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of one organisation in every table."""
    tables = [
        str(name)
        for (name,) in desk.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        if any(column[1] == "org" for column in desk.rows(f"PRAGMA table_info({name})"))
    ]
    return {table: desk.rows(f"SELECT * FROM {table} WHERE org = ?", org) for table in tables}


def _said(answer: httpx2.Response, name: str) -> tuple[int, str]:
    """Return an answer without the name that was asked for, so that two of them can be compared."""
    return answer.status_code, answer.text.replace(name, "*")


EVERYBODY: list[Scope | Role | None] = [*Scope, *Role, None]


def _names(other: Other, who: Scope | Role | None) -> list[tuple[str, str]]:
    """Return what is tried: everything by those who may do most, a third each by the others in turn."""
    names = list(other.names.items())
    return names if who in {Scope.ADMIN, Role.OWNER} else names[EVERYBODY.index(who) % 3 :: 3]


def _credential(desk: Desk, who: Scope | Role | None) -> str:
    """Return a key of a scope, a personal token of a member in a role, or none at all."""
    if who is None:
        return ""
    if isinstance(who, Scope):
        return desk.new_key(who)
    people = desk.treasury.identity.people
    operator = Decider("operator", None, is_operator=True)
    made = people.add_verified(desk.org, f"{who}@example.org", "correct horse battery", who, by=operator)
    return desk.run(people.create_token(desk.run(made).user.id, "theirs"))[1]


@pytest.mark.parametrize("who", EVERYBODY, ids=lambda who: str(who or "nobody"))
def test_nothing_of_another_organisation_is_read_or_touched_by_any_route(
    two: tuple[Desk, Other], who: Scope | Role | None
) -> None:
    desk, other = two
    key = _credential(desk, who)
    before = _rows(desk, other.org)
    for method, path, params in _operations(desk):
        if path == "/metrics" or (method == "POST" and path in HOT_PATHS and "{" not in path):
            continue  # the one names nobody; the others record into the caller's own ledger
        for name, unlike in _names(other, who):
            for asked in _requests(path, params, name, unlike):
                (own_path, own_params), (no_path, no_params) = asked
                ours = desk.send(method, own_path, params=own_params, key=key, json=_body(name))
                nobodys = desk.send(method, no_path, params=no_params, key=key, json=_body(unlike))
                assert CANARY not in ours.text.replace(name, ""), (method, own_path, own_params)
                if method == "GET" or "{" in path:
                    assert _said(ours, name) == _said(nobodys, unlike), (method, own_path, own_params)
    assert _rows(desk, other.org) == before


def _body(name: str) -> dict[str, object]:
    return {"name": name, "org": name, "org_id": name, "agent": name, "model": name, "deadline_s": 60}


def _requests(
    path: str, params: list[str], name: str, unlike: str
) -> Iterator[tuple[tuple[str, dict[str, str]], tuple[str, dict[str, str]]]]:
    """Give the request with the other's name in each place, and its twin with nobody's."""
    if "{" in path:
        yield (re.sub(r"\{[^}]*\}", name, path), {}), (re.sub(r"\{[^}]*\}", unlike, path), {})
    else:
        yield (path, {}), (path, {})
        for param in params:
            yield (path, {param: name}), (path, {param: unlike})


def test_the_other_organisation_itself_sees_what_was_looked_for(two: tuple[Desk, Other]) -> None:
    desk, other = two
    assert CANARY in desk.get("/v1/events", key=other.key).text
    assert CANARY in desk.get("/v1/keys", key=other.key).text
    assert CANARY in desk.get("/v1/prices", key=other.key).text
    assert CANARY in desk.get(f"/v1/events/{CANARY}", key=other.key).text
    for path in ("/v1/budgets", "/v1/incidents", "/v1/gates", f"/v1/agents/{CANARY}-agent_name/budgets"):
        assert CANARY in desk.get(path, key=other.key).text
    agent, run = f"/v1/agents/{CANARY}-agent_name", f"/v1/runs/{CANARY}-run_id"
    for path in (
        "/v1/agents",
        "/v1/dashboard/stats?range=30d",
        agent,
        f"{agent}/events",
        f"{agent}/runs",
        run,
    ):
        assert CANARY in desk.get(path, key=other.key).text


def test_only_the_operator_may_name_an_organisation(two: tuple[Desk, Other]) -> None:
    desk, other = two
    headers = {"X-Bursar-Org": "other"}
    assert CANARY not in desk.send("GET", "/v1/events", headers=headers).text
    operator = desk.treasury.operator_token
    assert CANARY in desk.send("GET", "/v1/events", headers=headers, key=operator).text
    missing = desk.send("GET", "/v1/events", headers={"X-Bursar-Org": "none"}, key=operator)
    assert missing.status_code == 404
    assert other.key not in missing.text


def test_a_subject_known_from_a_free_key_does_not_open_a_bound_one(tmp_path: Path) -> None:
    """Key numbers count up in each organisation: both keys here have the same one."""
    with open_desk(tmp_path / "data") as desk:
        other = desk.organisation("other")
        bound = desk.new_key(Scope.INGEST, org=other, agent="mine", project="ours")
        assert desk.ingest(event(agent_name="free")).status_code == 202
        assert desk.ingest(event(agent_name="free"), key=bound).status_code == 422
        assert desk.recorded(other) == 0


def test_the_same_key_and_names_in_both_are_two_events(two: tuple[Desk, Other]) -> None:
    desk, other = two
    same = event(idempotency_key="shared", agent_name="shared", run_id="shared")
    desk.post("/v1/agents/resume-all", {})  # a test before may have stopped its own agents
    assert desk.ingest(same).json()["duplicates"] == 0
    assert desk.ingest(same, key=other.key).json()["duplicates"] == 0
    assert desk.violations() == ()


def test_a_bound_reader_sees_its_own_only(two: tuple[Desk, Other]) -> None:
    desk, other = two
    mine = desk.new_key(Scope.READ, org=other.org, agent="mine")
    for path in ("/v1/events", "/v1/budgets", "/v1/incidents", "/v1/gates"):
        assert CANARY not in desk.get(path, key=mine).text
    assert desk.get(f"/v1/events/{CANARY}", key=mine).status_code == 404
    assert desk.get("/v1/events", key=mine, agent=f"{CANARY}-agent_name").status_code == 403
    assert desk.get("/v1/costs", key=mine, agent=f"{CANARY}-agent_name").status_code == 403
