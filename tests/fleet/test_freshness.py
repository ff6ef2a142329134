"""What one process changes holds in another within a second, while that one is busy with the old state."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from bursar.core.errors import NotFound
from bursar.core.ids import Org, text_from_id
from bursar.core.time import monotonic_clock, system_clock
from bursar.identity import keys
from bursar.identity.people import Decider
from bursar.identity.roles import Role
from bursar.ingestion.admission import RECOUNT_SECONDS
from bursar.storage.postgres.marks import HEARD_S, Marks
from bursar.storage.sql.marks import Kept, mark
from support.engines import Database
from support.fleet import Fleet, open_fleet

PASSWORD = "correct horse battery"
OPERATOR = Decider("operator", None, is_operator=True)
WITHIN_S = 1.0


class Case(NamedTuple):
    """A change in the first process, and the request of the second one that must hear of it.

    Attributes:
        change: Made once the second process has the old state in memory.
        before, after: What the request is answered with.
        asked: Its arguments.
    """

    change: Callable[[], Awaitable[object]]
    before: int
    after: int
    asked: tuple[str, str, str]
    options: Mapping[str, object] = MappingProxyType({})


class Person(NamedTuple):
    user: bytes
    token: str
    org: Org
    session: bytes


def event(model: str = "gpt-4o", **fields: object) -> dict[str, object]:
    return {
        "agent_name": "bot", "provider": "openai", "model": model, "input_tokens": 1000, "output_tokens": 0,
        "cost": 0, "timestamp": "2026-03-01T14:00:00Z", **fields,
    }  # fmt: skip


async def person(fleet: Fleet, role: Role = Role.OWNER) -> Person:
    """Somebody of an organisation of its own, whose other owner is somebody else."""
    first = fleet.first
    email = f"{uuid.uuid4().hex}@example.com"
    org = (await first.create_organisation(f"of {email}", "UTC")).org
    people = first.identity.people
    await people.add_verified(org, f"other-{email}", PASSWORD, Role.OWNER, by=OPERATOR)
    await people.add_verified(org, email, PASSWORD, role, by=OPERATOR)
    signed = await first.identity.accounts.log_in(email, PASSWORD)
    (session,) = await first.identity.accounts.sessions.list(signed.user.id, first.clock())
    return Person(signed.user.id, signed.token, org, session.id)


async def path_of(fleet: Fleet, org: Org) -> str:
    organisation = await fleet.first.organisations.get(org)
    return f"/v1/organisations/{text_from_id('org', organisation.id)}"


async def revoked_key(fleet: Fleet) -> Case:
    raw = keys.generate("local")
    key = await fleet.first.keys.create(fleet.key_of(raw, fleet.org), keys.hash_of(raw), actor="t")
    path = f"/v1/keys/{text_from_id('key', key.id)}"
    return Case(lambda: fleet.ask(0, "DELETE", path), 200, 401, ("GET", "/v1/events", raw))


async def rotated_key(fleet: Fleet) -> Case:
    raw = keys.generate("local")
    key = await fleet.first.keys.create(fleet.key_of(raw, fleet.org), keys.hash_of(raw), actor="t")
    path = f"/v1/keys/{text_from_id('key', key.id)}/rotate"
    return Case(lambda: fleet.ask(0, "POST", path, json={}), 200, 401, ("GET", "/v1/events", raw))


async def key_of_ingest(fleet: Fleet) -> Case:
    raw = keys.generate("local")
    key = await fleet.first.keys.create(fleet.key_of(raw, fleet.org), keys.hash_of(raw), actor="t")
    path = f"/v1/keys/{text_from_id('key', key.id)}"
    asked = ("POST", "/v1/ingest", raw)
    return Case(lambda: fleet.ask(0, "DELETE", path), 202, 401, asked, {"json": {"events": [event()]}})


async def logged_out(fleet: Fleet) -> Case:
    who = await person(fleet)
    log_out = fleet.first.identity.accounts.log_out
    return Case(lambda: log_out(who.session), 200, 401, ("GET", "/v1/events", who.token))


async def other_password(fleet: Fleet) -> Case:
    who = await person(fleet)
    change = fleet.first.identity.people.set_password
    changed = lambda: change(who.org, who.user, "another long word", by=OPERATOR)  # noqa: E731
    return Case(changed, 200, 401, ("GET", "/v1/events", who.token))


async def disabled(fleet: Fleet) -> Case:
    who = await person(fleet)
    shut = fleet.first.identity.people.set_disabled
    return Case(
        lambda: shut(who.org, who.user, is_disabled=True, by=OPERATOR),
        200, 401, ("GET", "/v1/events", who.token),
    )  # fmt: skip


async def removed(fleet: Fleet) -> Case:
    who = await person(fleet)
    remove = fleet.first.identity.people.remove
    return Case(lambda: remove(who.org, who.user, by=OPERATOR), 200, 401, ("GET", "/v1/events", who.token))


async def lower_role(fleet: Fleet) -> Case:
    who = await person(fleet)
    lower = fleet.first.identity.people.set_role
    changed = lambda: lower(who.org, who.user, Role.VIEWER, by=OPERATOR)  # noqa: E731
    return Case(changed, 200, 403, ("GET", "/v1/keys", who.token))


async def personal_token(fleet: Fleet) -> Case:
    who = await person(fleet)
    people = fleet.first.identity.people
    token, text = await people.create_token(who.user, "t")
    return Case(lambda: people.revoke_token(who.user, token.id), 200, 401, ("GET", "/v1/events", text))


async def other_signing_keys(fleet: Fleet) -> Case:
    who = await person(fleet)
    return Case(fleet.first.identity.tokens.revoke_all, 200, 401, ("GET", "/v1/events", who.token))


async def deleted_organisation(fleet: Fleet) -> Case:
    who = await person(fleet)
    path = await path_of(fleet, who.org)
    operator = fleet.first.operator_token
    delete = lambda: fleet.ask(0, "DELETE", path, operator)  # noqa: E731
    return Case(delete, 200, 403, ("GET", "/v1/events", who.token))


async def paused(fleet: Fleet) -> Case:
    org = (await fleet.first.create_organisation(f"paused {uuid.uuid4()}", "UTC")).org
    raw = keys.generate("local")
    await fleet.first.keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t")
    pause = lambda: fleet.ask(0, "POST", "/v1/billing/pause", raw)  # noqa: E731
    return Case(pause, 202, 403, ("POST", "/v1/ingest", raw), {"json": {"events": [event()]}})


async def other_quota(fleet: Fleet) -> Case:
    org = (await fleet.first.create_organisation(f"quota {uuid.uuid4()}", "UTC")).org
    raw = keys.generate("local")
    await fleet.first.keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t")
    path = await path_of(fleet, org)
    operator = fleet.first.operator_token
    change = lambda: fleet.ask(0, "PATCH", path, operator, json={"events_per_day": 1})  # noqa: E731
    return Case(change, 202, 429, ("POST", "/v1/ingest", raw), {"json": {"events": [event()]}})


CASES = [
    revoked_key, rotated_key, key_of_ingest, logged_out, other_password, disabled, removed, lower_role,
    personal_token, other_signing_keys, deleted_organisation, paused, other_quota,
]  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_change_is_heard_within_a_second(fleet: Fleet, make: Callable[[Fleet], Awaitable[Case]]) -> None:
    async def measured() -> float:
        case = await make(fleet)
        method, path, credential = case.asked
        heard = await fleet.ask(1, method, path, credential, **case.options)
        assert heard.status_code == case.before, heard.text
        changed = await case.change()
        assert getattr(changed, "status_code", 200) < 300, getattr(changed, "text", "")
        return await fleet.until(1, case.after, method, path, credential, **case.options)

    assert fleet.run(measured()) <= WITHIN_S


MODEL = "a-model-of-ours"


class Priced:
    """An organisation whose prices are changed in the first process and used in the second one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.key = fleet.new_key(org=fleet.organisation(f"priced {uuid.uuid4()}"))

    async def ask(self, place: int, method: str, path: str, **options: object) -> Any:  # noqa: ANN401 - JSON
        answer = await self._fleet.ask(place, method, path, self.key, **options)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def set_price(self, per_million: str) -> None:
        rates = {"input_tokens": per_million, "output_tokens": "1"}
        body = {"pattern": MODEL, "valid_from": "always", "per_million": rates}
        await self.ask(0, "POST", "/v1/prices", json=body)

    async def cost_of_a_call(self) -> object:
        """Record a call in the second process, and return what all calls there cost."""
        call = {"provider": "ours", "model": MODEL, "inputTokens": 1000, "outputTokens": 0}
        await self.ask(1, "POST", "/v1/track", json=call)
        return (await self.ask(1, "GET", "/v1/costs"))["meta"]["total"]["totalCost"]


def test_a_price_that_another_process_set_is_used_within_a_second(fleet: Fleet) -> None:
    priced = Priced(fleet)

    async def measured() -> float:
        assert await priced.cost_of_a_call() == 0
        await priced.set_price("1000000")
        begun = time.monotonic()
        while await priced.cost_of_a_call() == 0:
            assert time.monotonic() - begun < 5
        return time.monotonic() - begun

    assert fleet.run(measured()) <= WITHIN_S


def test_a_process_that_was_idle_uses_the_price_at_once(fleet: Fleet) -> None:
    priced = Priced(fleet)

    async def after_a_pause() -> object:
        assert await priced.cost_of_a_call() == 0
        await asyncio.sleep(HEARD_S)
        await priced.set_price("1000000")
        await asyncio.sleep(HEARD_S)
        return await priced.cost_of_a_call()

    assert fleet.run(after_a_pause()) == 1000


def test_a_reprice_uses_a_price_that_another_process_has_just_set(fleet: Fleet) -> None:
    priced = Priced(fleet)

    async def repriced() -> Any:  # noqa: ANN401 - JSON
        assert await priced.cost_of_a_call() == 0
        await priced.set_price("1000000")
        return await priced.ask(1, "POST", "/v1/models/reprice", json={})

    assert fleet.run(repriced())["repriced"] == 1


def test_an_end_of_a_price_is_heard_too(fleet: Fleet) -> None:
    priced = Priced(fleet)

    async def ended() -> list[object]:
        await priced.set_price("1000000")
        costs = [await priced.cost_of_a_call()]
        (listed,) = (await priced.ask(0, "GET", "/v1/prices"))["data"]
        await priced.ask(0, "POST", f"/v1/prices/{listed['id']}/end", json={})
        await asyncio.sleep(HEARD_S)
        return [*costs, await priced.cost_of_a_call()]

    assert fleet.run(ended()) == [1000, 1000], "what came after its end is unpriced"


def test_a_change_of_one_organisation_leaves_the_books_of_the_others(fleet: Fleet) -> None:
    changed, other = Priced(fleet), Priced(fleet)

    async def kept() -> tuple[bool, bool]:
        books = fleet.second.books
        await changed.cost_of_a_call()
        await other.cost_of_a_call()
        before = dict(books._books)
        await changed.set_price("2")
        await asyncio.sleep(HEARD_S)
        await other.cost_of_a_call()
        after = dict(books._books)
        return len(before) - len(after) == 1, all(before[org] is book for org, book in after.items())

    assert fleet.run(kept()) == (True, True)


def test_a_kill_in_one_process_refuses_the_next_hold_in_the_other(fleet: Fleet) -> None:
    key = fleet.new_key(org=fleet.organisation(f"killed {uuid.uuid4()}"))
    hold = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}

    async def killed() -> list[int]:
        budget = {"name": "daily", "scope": {"agent": "bot"}, "limit": "100.00"}
        made = await fleet.ask(0, "POST", "/v1/budgets", key, json=budget)
        assert made.status_code == 201, made.text
        statuses = []
        for _ in range(3):
            statuses.append((await fleet.ask(1, "POST", "/v1/holds", key, json=hold)).status_code)
            assert (await fleet.ask(0, "POST", "/v1/agents/bot/kill", key, json={})).status_code == 200
            statuses.append((await fleet.ask(1, "POST", "/v1/holds", key, json=hold)).status_code)
            assert (await fleet.ask(0, "POST", "/v1/agents/bot/resume", key, json={})).status_code == 200
        return statuses

    assert fleet.run(killed()) == [201, 403] * 3


def test_a_budget_of_one_process_binds_the_next_hold_in_the_other(fleet: Fleet) -> None:
    key = fleet.new_key(org=fleet.organisation(f"bound {uuid.uuid4()}"))
    hold = {"agent": "bot", "model": "gpt-4o", "amount_usd": "0.10"}

    async def bound() -> list[int]:
        statuses = []
        for limit in ("0.15", "0.01"):
            statuses.append((await fleet.ask(1, "POST", "/v1/holds", key, json=hold)).status_code)
            budget = {"name": f"of {limit}", "scope": {"agent": "bot"}, "limit": limit}
            made = await fleet.ask(0, "POST", "/v1/budgets", key, json=budget)
            assert made.status_code == 201, made.text
        statuses.append((await fleet.ask(1, "POST", "/v1/holds", key, json=hold)).status_code)
        return statuses

    assert fleet.run(bound()) == [201, 201, 402]


def test_a_process_that_stood_still_does_not_trust_what_it_knew(fleet: Fleet) -> None:
    """As after SIGSTOP: the first use asks again, however long ago the last answer was."""
    priced = Priced(fleet)
    clock = [100.0]
    marks = Marks(fleet.second.engine.readers, lambda: clock[0])
    heard: list[Org] = []
    marks.on(Kept.PRICES, heard.append)

    async def stood_still() -> list[int]:
        counts = []
        await marks.catch_up()
        await priced.set_price("1")
        await marks.catch_up()
        counts.append(len(heard))
        clock[0] += 3_600
        await marks.catch_up()
        counts.append(len(heard))
        await marks.catch_up(is_asked=True)
        counts.append(len(heard))
        return counts

    assert fleet.run(stood_still()) == [0, 1, 1]


def test_what_is_not_committed_yet_is_heard_of_later_and_what_is_undone_never(fleet: Fleet) -> None:
    org = fleet.organisation(f"slow {uuid.uuid4()}")
    marks = Marks(fleet.second.engine.readers, lambda: 0.0)
    heard: list[Org] = []
    marks.on(Kept.PRICES, heard.append)

    async def asked() -> int:
        await marks.catch_up(is_asked=True)
        return heard.count(org)

    async def slow() -> list[int]:
        counts = [await asked()]
        marked, go_on = asyncio.Event(), asyncio.Event()

        async def work(transaction: Any) -> None:  # noqa: ANN401 - of any engine
            mark(transaction.unit(org).connection, org, Kept.PRICES)
            marked.set()
            await go_on.wait()

        writing = asyncio.create_task(fleet.first.store.transact(work))
        await marked.wait()
        counts.append(await asked())
        # Others commit meanwhile: their later numbers must not hide the one that is still open.
        await fleet.first.create_organisation(f"meanwhile {uuid.uuid4()}", "UTC")
        counts.append(await asked())
        go_on.set()
        await writing
        counts.append(await asked())
        counts.append(await asked())

        async def undone(transaction: Any) -> None:  # noqa: ANN401 - of any engine
            mark(transaction.unit(org).connection, org, Kept.PRICES)
            raise NotFound("nothing of it")

        with pytest.raises(NotFound):
            await fleet.first.store.transact(undone)
        counts.append(await asked())
        return counts

    assert fleet.run(slow()) == [0, 0, 0, 1, 1, 1]


def test_many_requests_at_once_ask_for_changes_once(fleet: Fleet) -> None:
    reads = 0

    class Counted:
        async def run_short(self, org: Org, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401
            nonlocal reads
            reads += 1
            return await fleet.second.engine.readers.run_short(org, work)

        run = run_short

    marks = Marks(Counted())

    async def many() -> None:
        await asyncio.gather(*(marks.catch_up() for _ in range(100)))

    fleet.run(many())
    assert reads == 1


def test_a_confirmed_clock_is_believed_by_every_process(shared: Database) -> None:
    stepped = [0]
    with open_fleet(shared, clock=lambda: system_clock() + stepped[0]) as fleet:

        async def states() -> list[object]:
            return [(await fleet.ask(place, "GET", "/v1/status")).json()["clock"] for place in (0, 1)]

        async def confirmed() -> list[object]:
            for one in fleet.treasuries:
                await one.engine.changes.catch_up()
            seen = [await states()]
            stepped[0] = 3_600_000_000
            seen.append(await states())
            operator = fleet.first.operator_token
            assert (await fleet.ask(0, "POST", "/v1/clock/confirm", operator)).json()["changed"]
            await fleet.second.engine.changes.catch_up(is_asked=True)
            seen.append(await states())
            return seen

        assert fleet.run(confirmed()) == [["ok", "ok"], ["suspect", "suspect"], ["ok", "ok"]]


def test_a_days_quota_counts_what_other_processes_record(shared: Database) -> None:
    stepped = [0]
    with open_fleet(shared, monotonic=lambda: monotonic_clock() + stepped[0]) as fleet:
        batch = {"events": [event() for _ in range(6)]}

        async def recorded() -> list[int]:
            path, operator = await path_of(fleet, fleet.org), fleet.first.operator_token
            quota = {"events_per_day": 20}
            assert (await fleet.ask(0, "PATCH", path, operator, json=quota)).status_code == 200
            accepted = []
            for place in (0, 1, 0, 1):
                sent = await fleet.ask(place, "POST", "/v1/ingest", json=batch)
                accepted.append(sent.json()["accepted"])
                stepped[0] += round((RECOUNT_SECONDS + 1) * 1_000_000)
            return accepted

        assert fleet.run(recorded()) == [6, 6, 6, 2]
