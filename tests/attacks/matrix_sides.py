"""Two organisations with data of every kind, and everybody who may come to the one of them.

`Sides` knows all that the other organisation has, by kind, and beside each something of the same form that
nobody has. `actors` gives the callers: nobody, keys of every scope, bound keys, people of every role.
"""

import re
from typing import Any, NamedTuple

from matrix_rows import PASSWORD, Bound, Least, Row

from bursar.core.ids import Org, new_id, text_from_id
from bursar.identity.keys import Scope
from bursar.identity.people import Decider
from bursar.identity.roles import Role, scopes_of
from support.desk import Desk, event

HIDDEN = "hidden-of-the-other"
"""In all that the other organisation has and nobody asks for; so it must never be answered."""

CANARY = "canary"
UNKNOWN = "nobody"
OPERATOR = Decider("operator", None, is_operator=True)


class Actor(NamedTuple):
    """A caller.

    Attributes:
        label: For failures.
        credential: Its key or token; empty for none.
        scopes: What it may do.
    """

    label: str
    credential: str
    scopes: frozenset[Scope] = frozenset()
    role: Role | None = None
    has_session: bool = False
    is_known: bool = True
    bound: Bound = Bound.NONE
    is_operator: bool = False

    def is_let_in(self, row: Row) -> bool:
        """Tell whether it may do what a row declares."""
        return self._is(row.least) and self.bound in row.bound

    def own(self) -> dict[str, str]:
        """Return the names that a bound key may speak of."""
        names = {Bound.AGENT: {"agent": "mine"}, Bound.PROJECT: {"project": "ours"}}
        return names.get(self.bound, {})

    def _is(self, least: Least) -> bool:
        has_admin = Scope.ADMIN in self.scopes
        if least is Least.PUBLIC:
            return True
        if least is Least.NOBODY:
            return self.is_known or not self.credential
        if least is Least.PEOPLE:
            return has_admin or self.role in {Role.FINANCE, Role.MEMBER}
        if least in {Least.PERSON, Least.SESSION}:
            return self.has_session or (least is Least.PERSON and self.role is not None)
        if least in {Least.OWNER, Least.OPERATOR}:
            return self.is_operator or (least is Least.OWNER and self.role is Role.OWNER)
        return has_admin or Scope[least.name] in self.scopes


def actors(desk: Desk) -> list[Actor]:
    """Return everybody who may come, each with a credential of its own in `desk.org`."""
    everything = frozenset(Scope)
    found = [
        Actor("nobody", "", is_known=False),
        Actor("garbage", "ak_local_" + "0" * 64, is_known=False),
        Actor("garbage token", "eyJhbGciOiJub25lIn0.e30.", is_known=False),
        *(Actor(f"key {scope}", desk.new_key(scope), frozenset({scope})) for scope in Scope),
        Actor("key of an agent", desk.new_key(agent="mine"), everything, bound=Bound.AGENT),
        Actor("key of a project", desk.new_key(project="ours"), everything, bound=Bound.PROJECT),
        Actor("operator", desk.treasury.operator_token, everything, is_operator=True),
    ]
    for role in Role:
        email = f"{role}@example.org"
        user = desk.run(
            desk.treasury.identity.people.add_verified(desk.org, email, PASSWORD, role, by=OPERATOR)
        )
        session = desk.run(desk.treasury.identity.accounts.log_in(email, PASSWORD)).token
        found.append(Actor(f"{role}", session, scopes_of(role), role, has_session=True))
        if role in {Role.OWNER, Role.MEMBER}:
            token = desk.run(desk.treasury.identity.people.create_token(user.user.id, "theirs"))[1]
            found.append(Actor(f"personal token of the {role}", token, scopes_of(role), role))
    return found


def sender_of(row: Row, people: list[Actor]) -> str:
    """Return the credential of somebody whom a row lets in: nobody, the owner or the operator."""
    label = {Least.OPERATOR: "operator", Least.PUBLIC: "nobody", Least.NOBODY: "nobody"}.get(
        row.least, "owner"
    )
    return next(one.credential for one in people if one.label == label)


class Sides:
    """What is asked for from the first organisation.

    Attributes:
        org: The other organisation.
        key: A key of it that may do everything.
        theirs: What it has, by kind.
        nobodys: Something of the same form that nobody has, by kind.
        ours: Names of the first organisation, which it may have or not; its own id among them.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.org = desk.organisation(f"{HIDDEN} organisation")
        self.key = desk.new_key(org=self.org)
        self.theirs = furnish(desk, self.org, self.key, CANARY, HIDDEN)
        self.nobodys = self._alike(UNKNOWN)
        key = str(desk.post("/v1/keys", {"name": "own"}).json()["id"])
        self.ours = self._alike("own") | {"organisation": organisation_id(desk, desk.org), "key": key}

    def secrets(self) -> list[str]:
        """Return what no answer may hold, unless it was in the question."""
        return [HIDDEN, *(name for name in self.theirs.values() if _ID.fullmatch(name))]

    def _alike(self, word: str) -> dict[str, str]:
        """Return names and ids of the same form as the other's."""
        return {
            kind: text_from_id(name.split("_")[0], new_id())
            if _ID.fullmatch(name)
            else name.replace(CANARY, word).replace(HIDDEN, word)
            for kind, name in self.theirs.items()
        }


def furnish(desk: Desk, org: Org, key: str, word: str, hidden: str) -> dict[str, str]:
    """Have an organisation have something of every kind; return what it has, by kind.

    `word` is in the names that others ask for, `hidden` in all else.
    """
    return _Furnisher(desk, org, key, word, hidden).furnish()


class _Furnisher(NamedTuple):
    desk: Desk
    org: Org
    key: str
    word: str
    hidden: str

    def furnish(self) -> dict[str, str]:
        self._spend()
        return self._names() | self._made() | self._people()

    def _post(self, path: str, body: object, status: int) -> str:
        answer = self.desk.post(path, body, key=self.key)
        assert answer.status_code == status, (path, answer.text)
        return str(answer.json().get("id", "")) if answer.content else ""

    def _names(self) -> dict[str, str]:
        kinds = ("agent", "project", "feature", "user name", "run", "model", "provider", "idempotency key")
        names = {kind: f"{self.word}-{kind.replace(' ', '-')}" for kind in kinds}
        return names | {"import": f"{self.word}_import", "organisation name": f"{self.hidden} organisation"}

    def _spend(self) -> None:
        names = self._names()
        self.desk.ingest(
            event(
                agent_name=names["agent"], project=names["project"], feature=names["feature"],
                user=names["user name"], run_id=names["run"], model=names["model"],
                provider=names["provider"], idempotency_key=names["idempotency key"],
                prompt=self.hidden, extra=self.hidden,
            ),
            key=self.key,
        )  # fmt: skip
        self.desk.ingest(
            event(agent_name=self.hidden, project=self.hidden, user=self.hidden, run_id=self.hidden),
            key=self.key,
        )
        too_much = event(agent_name=self.hidden, cost=9_200_000_000)
        self.desk.ingest(too_much, {**too_much, "idempotency_key": "2"}, key=self.key)
        cursor = {"cursor": self.hidden}
        self.desk.send("PUT", f"/v1/imports/cursors/{names['import']}", key=self.key, json=cursor)

    def _made(self) -> dict[str, str]:
        desk, names = self.desk, self._names()
        agent, model = names["agent"], names["model"]
        found = {"event": str(desk.get("/v1/events", key=self.key).json()["data"][-1]["id"])}
        lease = {
            "agent": f"{self.hidden}-leased", "model": "gpt-4o", "provider": "openai",
            "instance": self.hidden, "idempotency_key": f"{self.hidden}-lease",
            "wants": {"amount_usd": "0.1"},
        }  # fmt: skip
        found["key"] = self._post("/v1/keys", {"name": self.hidden}, 201)
        found["price"] = self._post(
            "/v1/prices", {"pattern": model, "percent": -10, "note": self.hidden}, 201
        )
        for scope in ({"project": self.hidden}, {"agent": lease["agent"]}):
            self._post("/v1/budgets", {"name": self.hidden, "scope": scope, "limit": "9"}, 201)
        budget = {"name": self.hidden, "scope": {"agent": agent}, "limit": "1"}
        found["budget"] = self._post("/v1/budgets", budget, 201)
        asked = {
            "agent": agent,
            "model": model,
            "amount_usd": "1",
            "idempotency_key": names["idempotency key"],
        }
        found["hold"] = self._post("/v1/holds", asked, 201)
        self._post("/v1/holds", {**asked, "idempotency_key": f"{self.hidden}-again"}, 402)
        found["lease"] = self._post("/v1/leases", lease, 201)
        found["incident"] = str(desk.get("/v1/incidents", key=self.key).json()["data"][0]["id"])
        alert = {
            "agent_name": agent,
            "channel": "email",
            "threshold_pct": 0.5,
            "target": f"{self.hidden}@example.com",
        }
        found["alert config"] = self._post("/v1/alerts/configs", alert, 201)
        self._post("/v1/org/budgets", {"budget_type": "cost", "period": "daily", "limit_value": 999}, 201)
        self._post(f"/v1/agents/{agent}/pause", {"reason": self.hidden}, 200)
        return found

    def _people(self) -> dict[str, str]:
        people, email = self.desk.treasury.identity.people, f"{self.word}@example.com"
        member = self.desk.run(people.add_verified(self.org, email, PASSWORD, Role.OWNER, by=OPERATOR))
        unasked = f"{self.hidden}@example.com"
        self.desk.run(people.add_verified(self.org, unasked, PASSWORD, Role.MEMBER, by=OPERATOR))
        token, _ = self.desk.run(people.create_token(member.user.id, self.hidden))
        self.desk.run(self.desk.treasury.identity.accounts.log_in(email, PASSWORD))
        invited = self.desk.run(
            people.invite(self.org, f"{self.word}2@example.com", Role.MEMBER, by=OPERATOR)
        )
        user = text_from_id("usr", member.user.id)
        return {
            "organisation": organisation_id(self.desk, self.org),
            "user": user,
            "actor": f"user:{user}",
            "email": email,
            "fresh email": f"{self.word}3@example.com",
            "token": text_from_id("tok", token.id),
            "invitation": text_from_id("inv", invited.invitation.id),
            "invitation code": f"{self.word}-code",
        }


_ID = re.compile(r"[a-z]{2,4}_[0-9a-z]{20,}")
_MADE = re.compile(
    r"\b(?:[a-z]{2,4}_[0-9a-z]{20,}|[0-9a-f]{16,}|[0-9a-f-]{36}|eyJ[\w.-]+)|(?<=\"batch\":)\d+"
)


def said(status: int, text: str, name: str) -> tuple[int, str]:
    """Return an answer without the name that was asked for and without ids and numbers made on the way."""
    return status, _MADE.sub("*", text.replace(name, "*"))


def rows_of(desk: Desk, org: Org) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of an organisation in every table, and every row of its people."""
    people = "SELECT user FROM membership WHERE org = ?"
    found = {}
    for table, columns in desk.database.columns().items():
        where = next((f"{name} {test}" for name, test in (
            ("org", "= ?"), ("user", f"IN ({people})"), ("email", f"LIKE '{CANARY}%' AND ? > 0"),
        ) if name in columns), None)  # fmt: skip
        if where is not None:
            found[table] = sorted(desk.rows(f"SELECT * FROM {table} WHERE {where}", org), key=repr)
    return found


def filled(template: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - JSON
    """Return a body, a query or a path with a name in the place of each `<kind>`."""
    if isinstance(template, str):
        return re.sub(r"<([^>]*)>", lambda found: names[found[1]], template)
    if isinstance(template, dict):
        return {filled(name, names): filled(value, names) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, names) for value in template]
    return template


def kinds_in(template: object) -> set[str]:
    """Return the kinds that a template names."""
    if isinstance(template, str):
        return set(re.findall(r"<([^>]*)>", template))
    parts = [*template, *template.values()] if isinstance(template, dict) else template
    return set[str]().union(*map(kinds_in, parts)) if isinstance(parts, list) else set()


def organisation_id(desk: Desk, org: Org) -> str:
    """Return an organisation's id as routes print it."""
    own = desk.one("SELECT id FROM organisation WHERE org = ?", org)[0]
    assert isinstance(own, bytes)
    return text_from_id("org", own)
