"""Every operation × every caller × everything of the other organisation: no leak, no change, no lesser right.

The operations come from the OpenAPI document, what is expected of each from `matrix_rows`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import httpx2
import pytest
from matrix_rows import NAMES, PLACES, ROWS, Bound, Least, Row, kind_of
from matrix_sides import CANARY, HIDDEN, Actor, Sides, actors, filled, kinds_in, rows_of, said

from bursar.core.ids import new_id
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

HALF_GOOD = {"POST /v1/auth/change-password"}
"""Operations whose row has a body that is refused for what it says: taken, it would end the session."""

ONCE = {"POST /v1/auth/register"}
"""Asked by one caller: a second one would find what the first has made."""

SEES_NO_NAMES = [
    "GET /v1/billing/payments",
    "GET /v1/budgets/{budget_id}/windows",
    "GET /v1/dashboard/overview",
    "GET /v1/dashboard/spend",
    "GET /v1/dashboard/stats",
    "GET /v1/org/budgets",
    "GET /v1/prices/explain",
    "GET /v1/reports/series",
]
"""Routes that answer in figures only, or about a model that is asked for."""


class Operation(NamedTuple):
    """One operation of the document, and its row."""

    method: str
    path: str
    params: tuple[str, ...]
    row: Row

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    def path_with(self, names: dict[str, str], **instead: str) -> str:
        """Return the path with a name in each place; `instead` by parameter."""
        return re.sub(
            r"\{([^}]*)\}", lambda found: instead.get(found[1]) or self._name(found[1], names), self.path
        )

    def _name(self, parameter: str, names: dict[str, str]) -> str:
        kind = kind_of(self.path, parameter)
        assert kind is not None
        return names[kind]


def _document(desk: Desk) -> dict[str, dict[str, object]]:
    """Return the document's operations by `METHOD path`."""
    paths = desk.get("/openapi.json").json()["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def _operations(desk: Desk) -> list[Operation]:
    found = []
    for label, documented in _document(desk).items():
        method, path = label.split(" ", 1)
        parameters = documented.get("parameters", [])
        assert isinstance(parameters, list)
        query = tuple(one["name"] for one in parameters if one["in"] == "query")
        found.append(Operation(method, path, query, ROWS[label]))
    # Reads come before all writes: those write the other's names into the caller's own organisation.
    return sorted(found, key=lambda one: (one.row.is_last, one.method != "GET"))


@pytest.fixture(scope="module")
def sides(module_database: Database) -> Iterator[Sides]:
    with open_desk(module_database) as desk:
        desk.ingest(event(), event(agent_name="mine", project="ours"), event(model="unknown-to-all"))
        yield Sides(desk)


@pytest.fixture
def everybody(sides: Sides) -> list[Actor]:
    return actors(sides.desk)


def test_every_operation_has_a_row_and_every_row_an_operation(sides: Sides) -> None:
    documented = _document(sides.desk)
    assert sorted(documented) == sorted(ROWS), "say in matrix_rows who may call a new route"
    for label, operation in documented.items():
        path = label.split(" ", 1)[1]
        parameters = operation.get("parameters", [])
        assert isinstance(parameters, list)
        for parameter in parameters:
            kind = kind_of(path, parameter["name"])
            assert kind is None or kind in sides.theirs, (label, parameter["name"])
        assert kinds_in(ROWS[label].body) <= set(sides.theirs), label
        if "requestBody" in operation:
            assert ROWS[label].body is not None, (label, "say in its row what body it takes")


def test_a_body_names_all_that_it_can_name(sides: Sides) -> None:
    """A new field that names something of an organisation has to be in the row's body too."""
    document = sides.desk.get("/openapi.json").json()
    for label, operation in _document(sides.desk).items():
        sent = repr(ROWS[label].body)
        for field in _fields(document, operation.get("requestBody", {})):
            if (field in NAMES or field.endswith("_id")) and field not in {"source", "token"}:
                assert field in sent, (label, field)


def _fields(document: object, part: object) -> set[str]:
    """Return the names of all properties below a part of the document."""
    assert isinstance(document, dict)
    if isinstance(part, list):
        return set[str]().union(*(_fields(document, one) for one in part))
    if not isinstance(part, dict):
        return set()
    found = set[str]()
    if "$ref" in part:
        found |= _fields(document, document["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]])
    properties = part.get("properties", {})
    found |= set(properties) if isinstance(properties, dict) else set()
    return found.union(
        *(_fields(document, one) for name, one in part.items() if name not in {"examples", "example"})
    )


def test_each_caller_may_do_what_its_role_or_scope_allows_and_no_more(
    sides: Sides, everybody: list[Actor]
) -> None:
    before = rows_of(sides.desk, sides.org)
    wrong = []
    for operation in _operations(sides.desk):
        statuses = set()
        for actor in everybody:
            if operation.label in ONCE and actor.credential:
                continue
            answer = _ask(sides, actor, operation)
            statuses.add(answer.status_code)
            if not _is_right(operation, actor, answer):
                wrong.append(f"{operation.label} by {actor.label}: {answer.status_code} {answer.text[:200]}")
        if operation.row.least is Least.PUBLIC and len(statuses - {429}) != 1:
            wrong.append(f"{operation.label} answers {statuses}")
    assert not wrong, "\n".join(wrong)
    assert rows_of(sides.desk, sides.org) == before


def _ask(sides: Sides, actor: Actor, operation: Operation) -> httpx2.Response:
    """Ask in the caller's own organisation; make good what that did."""
    desk, row = sides.desk, operation.row
    names = sides.ours | actor.own()
    # A key that a path has ended could not be named in a body any more.
    path = operation.path_with(names | {"key": sides.nobodys["key"]})
    body, params = filled(row.body, names), filled(dict(row.query), names)
    answer = desk.send(operation.method, path, key=actor.credential, json=body, params=params)
    if row.undo is not None and answer.status_code < 300:
        method, path = row.undo
        assert (
            desk.send(method, str(filled(path, names)), key=desk.treasury.operator_token).status_code == 200
        )
    return answer


def _is_right(operation: Operation, actor: Actor, answer: httpx2.Response) -> bool:
    """Tell whether a caller was let in or kept out as its row says, without a server error."""
    status, row = answer.status_code, operation.row
    if status >= 500 and "billing_not_configured" not in answer.text:
        return False
    if row.least is Least.PUBLIC:
        return True
    if actor.is_let_in(row):
        if status == 422 and operation.label not in HALF_GOOD:
            return False
        return status != 401 and not (status == 403 and answer.json()["code"] == "denied")
    # Most of the operator's routes do not look who else it is.
    is_vague = row.least is Least.OPERATOR and actor.credential != ""
    return status in ({401, 403} if is_vague else {403 if actor.is_known else 401})


class Question(NamedTuple):
    """A place of a request, and the kind of name that is put there; none of both asks plainly."""

    part: str
    """`path`, `query`, `body`, or nothing."""
    parameter: str = ""
    kind: str = ""


def test_what_the_other_has_looks_like_what_nobody_has(sides: Sides, everybody: list[Actor]) -> None:
    """Its ids and names in path, query and body: the same answers, and none of its rows is touched."""
    before = rows_of(sides.desk, sides.org)
    wrong = [
        f"{operation.label} by {actor.label} with {question}: {told}"
        for operation in _operations(sides.desk)
        for actor in _askers(operation, everybody)
        for question in _questions(sides, operation, tries_all=actor.scopes == {Scope.ADMIN})
        if (told := _leak(sides, actor, operation, question))
    ]
    assert not wrong, "\n".join(wrong[:40])
    after = rows_of(sides.desk, sides.org)
    changed = {name for name, rows in after.items() if rows != before[name]}
    assert changed <= {"one_time_code"}, "anybody may have a code mailed to anybody, and nothing else"


def _askers(operation: Operation, everybody: list[Actor]) -> list[Actor]:
    """Return who asks: one for what is everybody's, which is throttled; never the operator."""
    if operation.row.is_last or operation.label in ONCE:
        return []
    if operation.row.least is Least.PUBLIC:
        return everybody[:1]
    return [actor for actor in everybody if not actor.is_operator]


def _questions(sides: Sides, operation: Operation, *, tries_all: bool) -> Iterator[Question]:
    """Give each place with what belongs there, and to who tries all, any name in a path or list."""
    for parameter in re.findall(r"\{([^}]*)\}", operation.path):
        own = kind_of(operation.path, parameter)
        for kind in sides.theirs:
            if kind == own or (tries_all and operation.method == "GET"):
                yield Question("path", parameter, kind)
    for parameter in operation.params:
        own = kind_of(operation.path, parameter)
        for kind in sides.theirs:
            if kind == own or (tries_all and parameter in PLACES):
                yield Question("query", parameter, kind)
    for kind in sorted(kinds_in(operation.row.body)):
        yield Question("body", "", kind)
    if operation.method == "GET":
        yield Question("")


def _leak(sides: Sides, actor: Actor, operation: Operation, question: Question) -> str:
    """Ask for what the other has and for what nobody has; return how the answers differ, or what leaked."""
    name, unlike = sides.theirs.get(question.kind, ""), sides.nobodys.get(question.kind, "")
    found = _put(sides, actor, operation, question, name)
    text = found.text.replace(name, "*") if name else found.text
    for secret in sides.secrets():
        if secret in text:
            return f"{secret} in {text[:300]}"
    is_allowed = question.kind == "email" and operation.row.tells_addresses
    if not name or question.parameter in PLACES or is_allowed:
        return ""
    twin = _put(sides, actor, operation, question, unlike)
    if operation.method != "GET" and found.status_code < 300:
        # What it wrote into the caller's own organisation counts on, or is the same request again.
        return "" if twin.status_code < 300 else f"{found.status_code}, {twin.status_code} {twin.text[:300]}"
    one, other = said(found.status_code, found.text, name), said(twin.status_code, twin.text, unlike)
    return "" if one == other else f"{one}\n    {other}"


def _put(sides: Sides, actor: Actor, operation: Operation, question: Question, name: str) -> httpx2.Response:
    """Send a request with `name` in the place of the question, and names of our own in the others."""
    # A key is of one request, a run of one agent: used twice they would tell the two requests apart.
    fresh = dict.fromkeys(("idempotency key", "run"), new_id().hex())
    names = sides.ours | actor.own() | fresh
    part = question.part
    path = operation.path_with(names, **({question.parameter: name} if part == "path" else {}))
    body = filled(operation.row.body, names | ({question.kind: name} if part == "body" else {}))
    params = filled(dict(operation.row.query), names)
    params |= {question.parameter: name} if part == "query" else {}
    return sides.desk.send(operation.method, path, key=actor.credential, json=body, params=params)


def test_a_header_that_names_the_other_organisation_opens_nothing(
    sides: Sides, everybody: list[Actor]
) -> None:
    for operation in _operations(sides.desk):
        if operation.method != "GET" or operation.row.least is Least.PUBLIC:
            continue
        path = operation.path_with(sides.ours)
        for actor in everybody:
            answers = [
                sides.desk.send("GET", path, key=actor.credential, headers={"X-Bursar-Org": wanted})
                for wanted in (sides.theirs["organisation"], sides.nobodys["organisation"])
            ]
            if not actor.is_operator:
                told = [said(answer.status_code, answer.text, "-") for answer in answers]
                assert told[0] == told[1], (operation.label, actor.label)
                assert HIDDEN not in answers[0].text, (operation.label, actor.label)


def test_the_other_organisation_itself_sees_what_was_looked_for(sides: Sides) -> None:
    """Else the tests above could not fail."""
    desk, unseen = sides.desk, []
    for operation in _operations(desk):
        if operation.method == "GET" and operation.row.least in {Least.READ, Least.ADMIN, Least.PEOPLE}:
            answer = desk.get(operation.path_with(sides.theirs), key=sides.key)
            if HIDDEN not in answer.text and CANARY not in answer.text:
                unseen.append(operation.label)
    assert sorted(unseen) == SEES_NO_NAMES


def test_a_bound_key_sees_its_own_part_only(sides: Sides, everybody: list[Actor]) -> None:
    """What another agent does in another project of the same organisation is as hidden from it.

    An agent belongs to no project, so a key of a project may ask for any by name, and is told its stops.
    """
    desk = sides.desk
    named = _of_another_part(desk)
    secrets = {Bound.PROJECT: [name for kind, name in named.items() if kind != "agent"]}
    seen = [
        f"{operation.label} by {actor.label} {answer.text[:300]}"
        for operation in _operations(desk)
        if operation.method == "GET"
        for actor in everybody
        if actor.bound in operation.row.bound and actor.bound
        for answer in [desk.get(operation.path_with(sides.ours | named), key=actor.credential)]
        if answer.status_code < 300
        and any(name in answer.text for name in secrets.get(actor.bound, named.values()))
    ]
    assert not seen, "\n".join(seen)


def _of_another_part(desk: Desk) -> dict[str, str]:
    """Have an agent spend in a project, with a budget that stops it; return all names and ids by kind."""
    named = {kind: f"not-mine-{kind}" for kind in ("agent", "project", "run", "event", "email")}
    scope = {"agent": named["agent"], "project": named["project"]}
    spent = event(
        agent_name=named["agent"], project=named["project"], run_id=named["run"],
        idempotency_key=named["event"],
    )  # fmt: skip
    assert desk.ingest(spent).status_code == 202
    asked = scope | {"model": "gpt-4o", "amount_usd": "1"}
    alert = {"agent_name": named["agent"], "channel": "email", "threshold_pct": 0.5, "target": named["email"]}
    made = {
        "budget": desk.post("/v1/budgets", {"name": named["project"], "scope": scope, "limit": "1"}),
        "hold": desk.post("/v1/holds", asked),
        "alert config": desk.post("/v1/alerts/configs", alert),
    }
    named |= {kind: str(answer.json()["id"]) for kind, answer in made.items()}
    assert desk.post("/v1/holds", asked).status_code == 402
    incidents = desk.get("/v1/incidents").json()["data"]
    incident = next(one for one in incidents if one["budget_id"] == named["budget"])
    return named | {"incident": str(incident["id"])}
