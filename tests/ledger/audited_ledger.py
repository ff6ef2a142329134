"""A real ledger file to write through the real pipeline, and to prove and break afterwards."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from bursar.budgets.amounts import Amounts
from bursar.budgets.authorise import authorise
from bursar.budgets.book import Book
from bursar.budgets.budget import Budget, terms_of
from bursar.budgets.clock import Now
from bursar.budgets.hold import Granted, Request
from bursar.budgets.matching import BudgetIndex, Call
from bursar.budgets.ports import Written
from bursar.budgets.settlement import Spend, post, settle
from bursar.core.ids import Org, key_from_text, new_id
from bursar.core.money import nusd_from_decimal
from bursar.core.usage import Billing, ServiceTier, Source, Subject, UsageEvent
from bursar.directory.organisations import Organisation
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.ingestion.intake import Intake, Receipt
from bursar.ingestion.pipeline import BatchResult, process_batch
from bursar.ledger.posting import Correction, correct
from bursar.ledger.verification import VerifyReport
from bursar.pricing.engine import CostBasis, PriceBook
from bursar.storage.sql.directory import DEFAULT_LIMITS, Limits
from bursar.storage.sql.keys import SqlKeys
from bursar.storage.sql.organisations import SqlOrganisations
from bursar.storage.sql.ports import Connection, Transaction
from bursar.storage.sqlite.store import DATABASE_NAME
from support.engines import Database, canonical_names, database_of

Result = TypeVar("Result")

HOUR = 3_600_000_000
NOON = 1_772_366_400_000_000  # 2026-03-01T12:00:00Z
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-20250514"), ("nobody", "unheard-of"))


def event(name: str, at: int = NOON, **fields: object) -> UsageEvent:
    """An event whose key is made of `name`; `agent`, `model`, `user` … go into its subject."""
    subject = {kind: fields.pop(kind) for kind in Subject._fields if kind in fields}
    given = {"agent": "writer", "provider": "openai", "model": "gpt-4o", **subject}
    counts = {"input_tokens": 100, "output_tokens": 10, "duration_ms": 250, **fields}
    return UsageEvent(
        key=key_from_text(name), occurred_at=at, subject=Subject(**given), source=Source.INGEST, **counts
    )


class AuditedLedger:
    """An open database, or a file in a directory, with organisations acme (1), umbrella (2), initech (3)."""

    def __init__(self, place: Database | Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.database = database_of(place)
        self.directory = self.database.folder
        self.now = NOON
        self._runner = asyncio.Runner()
        self.engine = self.database.engine(
            clock=lambda: self.now, canonicalise=canonical_names, limits=limits
        )
        self.store, self.readers = self.engine.store, self.engine.readers
        self.book = PriceBook((), basis=CostBasis.AUTO)
        self.intake = Intake(self.store, self, lambda: self.now, coalesce_events_max=64)
        self._organisations = SqlOrganisations(self.store, self.readers)
        known = self.wait(self._organisations.list())
        for name in ("acme", "umbrella", "initech")[len(known) :]:
            self.new_org(name)
        self.acme, self.umbrella, self.initech = Org(1), Org(2), Org(3)

    @property
    def path(self) -> Path:
        """SQLite's file."""
        return self.directory / DATABASE_NAME

    def wait(self, work: Awaitable[Result]) -> Result:
        """Return what `work` gives, on the one loop that the engine's connections belong to."""

        async def awaited() -> Result:
            return await work

        return self._runner.run(awaited())

    async def of(self, org: Org) -> PriceBook:
        assert org
        return self.book

    def new_org(self, name: str = "") -> Org:
        made = Organisation(org=Org(0), id=new_id(), name=name or new_id().hex(), zone="UTC", created_at=NOON)
        return self.wait(self._organisations.create(made, actor="operator")).org

    def run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        return self.wait(self.store.transact(work))

    def post(self, events: Sequence[UsageEvent], org: Org | None = None) -> BatchResult:
        """One `process_batch` in one transaction."""
        of = org or self.acme
        return self.run(lambda t: process_batch(t.unit(of), events, self.book, now=self.now))

    def take(self, events: Sequence[UsageEvent], org: Org | None = None) -> Receipt:
        """The same through the intake."""
        return self.wait(self.intake.record(org or self.acme, events))

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.rows(sql, *values)

    def number(self, sql: str, *values: object) -> int:
        """The one integer of a query; NULL counts as 0."""
        return int(self.rows(sql, *values)[0][0] or 0)

    def totals(self, org: Org | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """Every roll-up of an organisation, by names instead of numbers, which depend on order."""
        return {table: self.rows(sql, org or self.acme) for table, sql in TOTALS.items()}

    def effects(self, org: Org | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """The totals that stand: no rows that are back at nothing, no times of what was reversed."""
        listed = self.totals(org)
        found = {"unpriced_event": listed.pop("unpriced_event")}
        for table, rows in listed.items():
            kept = [row for row in rows if row[DIMENSIONS[table]]]
            found[table] = [row[:-2] for row in kept] if "first_at" in TOTALS[table] else kept
        return found

    def create_key(self, *, revoked: bool = False) -> None:
        raw = keys.generate("local")
        key = ApiKey(org=self.acme, number=0, id=new_id(), name="k", prefix=keys.shown_prefix(raw),
                     scopes=frozenset({Scope.INGEST}), created_at=NOON)  # fmt: skip
        stored = SqlKeys(self.store, self.readers)
        self.wait(stored.create(key, keys.hash_of(raw), actor="operator"))
        if revoked:
            self.wait(stored.revoke(self.acme, key.id, at=NOON, actor="operator"))

    def verify(self) -> VerifyReport:
        return self.database.verify()

    def close(self) -> None:
        self.wait(self.engine.close())
        self._runner.close()
        self.database.release()


_NAMED = "LEFT JOIN {0} ON {0}.org = r.org AND {0}.{1} = r.{1}"
_MEASURES = """requests, errors, unpriced_requests, unpriced_tokens, cost_nusd, input_tokens, output_tokens,
    reasoning_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, media_tokens,
    web_searches, duration_ms"""
DIMENSIONS = {
    "rollup_agent": 4, "rollup_project": 3, "rollup_feature": 2, "rollup_user": 2, "agent_total": 1, "run": 2
}  # fmt: skip
TOTALS = {
    "rollup_agent": f"""SELECT hour, agent.name, model.name, billing, {_MEASURES}, durations, first_at,
        last_at FROM rollup_agent r {_NAMED.format("agent", "agent")} {_NAMED.format("model", "model")}
        WHERE r.org = ? ORDER BY 1, 2, 3, 4""",
    "rollup_project": f"""SELECT hour, project.name, model.name, {_MEASURES}, durations,
        first_at, last_at FROM rollup_project r {_NAMED.format("project", "project")}
        {_NAMED.format("model", "model")}
        WHERE r.org = ? ORDER BY 1, 2, 3""",
    "rollup_feature": f"""SELECT hour, feature.name, {_MEASURES}
        FROM rollup_feature r {_NAMED.format("feature", "feature")} WHERE r.org = ? ORDER BY 1, 2""",
    "rollup_user": f"""SELECT hour, user_label.name, {_MEASURES}
        FROM rollup_user r {_NAMED.format("user_label", "user")} WHERE r.org = ? ORDER BY 1, 2""",
    "agent_total": f"""SELECT agent.name, {_MEASURES}, first_at, last_at
        FROM agent_total r {_NAMED.format("agent", "agent")} WHERE r.org = ? ORDER BY 1""",
    "run": f"SELECT run, parent, {_MEASURES}, first_at, last_at FROM run WHERE org = ? ORDER BY 1",
    "unpriced_event": f"""SELECT model.name, occurred_at, key
        FROM unpriced_event r {_NAMED.format("model", "model")} WHERE r.org = ? ORDER BY 1, 2, 3""",
}


def fill(ledger: AuditedLedger) -> None:
    """Post everything that can happen to an event, in two organisations."""
    ledger.create_key()
    ledger.create_key(revoked=True)
    first = [_varied(number) for number in range(120)]
    ledger.post(first)
    ledger.post(first[:10])  # duplicates
    ledger.post([event(f"e{n}", at=_at(n), input_tokens=7_777) for n in range(5)])  # conflicts
    ledger.post(
        [_varied(n, revision=2, input_tokens=5_000 + n, at=_at(n) + 26 * HOUR) for n in range(20, 40)]
    )
    ledger.post([_varied(n, revision=3, agent="moved", run="r-moved") for n in range(30, 45)])
    ledger.post([event("both", input_tokens=5), event("both", revision=1, input_tokens=9), event("both")])
    ledger.post(
        [event("late", at=NOON - 400 * HOUR), event("old", at=-5 * HOUR - 1, prompt="sent on purpose")]
    )
    ledger.post([event("stamped", time_stamped=True), event("stamped", time_stamped=True, revision=1)])
    ledger.post([_varied(n, api_key=0) for n in range(60, 90)], ledger.umbrella)
    reprice(ledger)
    budget_spent(ledger)
    ledger.take([event("huge", reported_nusd=2**62), event("more", reported_nusd=2**62),
                 event("most", reported_nusd=2**62), event("fits")])  # fmt: skip


def budget_spent(ledger: AuditedLedger) -> None:
    """Give `acme` a budget and spend something of it, with a hold and without; the auditor proves it."""

    async def work(transaction: Transaction) -> None:
        budgets = transaction.unit(ledger.acme).budgets
        budget = Budget(id=bytes(16), limit=100, created_at=0)
        await budgets.put(budget)
        book = Book({budget.id: terms_of(budget)}, is_complete=True)
        matched = BudgetIndex([budget]).matching(Call("a"))
        post(book, Spend(key_from_text("e0"), Call("a"), Amounts(7), NOON), matched, Now(NOON))
        asked = Request(hold_id=bytes(16), key=bytes(16), digest=b"", call=Call("a"), amounts=Amounts(9))
        granted = authorise(book, asked, matched, Now(NOON))
        assert isinstance(granted, Granted)
        settle(book, granted.hold, Spend(bytes(16), Call("a"), Amounts(8), NOON), matched, Now(NOON))
        await budgets.write(book.take(), Written(NOON))

    ledger.run(work)


FIRST_LISTED = "SELECT key FROM unpriced_event WHERE org = 1 ORDER BY key LIMIT 2"


def reprice(ledger: AuditedLedger) -> None:
    """Turn two unpriced events of `acme` into priced ones, by corrections with another reason."""
    listed = [
        key for (key,) in ledger.rows("SELECT key FROM unpriced_event WHERE org = 1 ORDER BY key LIMIT 2")
    ]
    assert len(listed) == 2

    async def work(transaction: Transaction) -> None:
        unit = transaction.unit(ledger.acme)
        batch = await unit.ledger.next_batch()
        for key in listed:
            standing = await unit.ledger.standing(key)
            assert standing is not None
            run = (standing.run, standing.parent_run)
            priced = standing.row._replace(
                batch=batch, reported_nusd=77, flags=standing.row.flags & ~(3 << 14) | 2 << 14
            )
            correction = Correction(standing.row, priced, run, run, standing.corrects)
            await unit.ledger.append_corrections(
                [correction],
                correct([correction]),
                batch=batch,
                revisions=[standing.revision],
                reason="reprice",
            )
        hours = sorted({at - at % HOUR for (at,) in _times(unit.connection, listed)})
        await unit.ledger.close_batch(batch, at=ledger.now, hours=hours, events=0, entries=4)

    ledger.run(work)


def _times(connection: Connection, listed: Iterable[bytes]) -> list[tuple[int]]:
    sql = "SELECT occurred_at FROM entry WHERE org = 1 AND key = ?"
    return [row for key in listed for row in connection.execute(sql, (key,))]


def _at(number: int) -> int:
    return NOON + number * 17 * 60_000_000 + number


def _varied(number: int, at: int | None = None, **fields: object) -> UsageEvent:
    """One of many events that differ in every dimension and count."""
    provider, model = MODELS[number % 3]
    reported = {0: None, 1: 0, 2: nusd_from_decimal(Decimal("0.0155"))}[number % 5 % 3]
    return event(f"e{number}", _at(number) if at is None else at, **{
        "agent": ("writer", "coder", "")[number % 7 % 3], "provider": provider, "model": model,
        "project": ("", "site")[number % 2], "feature": ("", "chat", "search")[number % 4 % 3],
        "user": ("", "ann", "bob")[number % 11 % 3], "api_key": (0, 1, 2)[number % 3],
        "run": ("", "run-1", "0192f0c4-0000-7000-8000-000000000001")[number % 13 % 3],
        "parent_run": ("", "run-0")[number % 13 % 2], "session": ("", "s")[number % 2],
        "input_tokens": 10 * number, "output_tokens": number, "reasoning_tokens": number % 3 * 50,
        "cache_read_tokens": number % 4 * 1_000, "cache_write_5m_tokens": number % 9 * 3,
        "cache_write_1h_tokens": number % 10 // 9, "input_audio_tokens": number % 17 // 16 * 40,
        "web_searches": number % 19 // 18, "duration_ms": number * number, "is_error": number % 8 == 7,
        "billing": Billing(number % 6 // 5), "service_tier": ServiceTier(number % 12 // 11),
        "reported_nusd": reported, "attributes": {"row": number} if number % 2 else None, **fields,
    })  # fmt: skip
