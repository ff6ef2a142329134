"""One process's open ledger and the app over it.

    Settings → Treasury(app, …)

`cli serve` runs the app behind a socket; the other commands call the same app in process.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from bursar.core.ids import Org, new_id
from bursar.core.time import MICROS_PER_SECOND, monotonic_clock, system_clock
from bursar.directory.organisations import Organisation
from bursar.http.app import create_app
from bursar.http.v1.costs import costs_router
from bursar.http.v1.events_read import events_router
from bursar.http.v1.events_write import EventsEndpoint
from bursar.http.v1.hot_schema import HOT_PATHS
from bursar.http.v1.imports import imports_router
from bursar.http.v1.ingest import BodyLimits, IngestEndpoint
from bursar.http.v1.ingest_body import IngestDecoder
from bursar.http.v1.keys import keys_router
from bursar.http.v1.lease_schema import LEASE_PATHS
from bursar.http.v1.models import models_router
from bursar.http.v1.organisations import organisations_router
from bursar.http.v1.price_lists import PriceLists
from bursar.http.v1.prices import prices_router
from bursar.http.v1.quarantine import quarantine_router
from bursar.http.v1.reports import reports_router
from bursar.http.v1.system import system_router
from bursar.http.v1.track import TrackEndpoint
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.ingestion.admission import Admission
from bursar.ingestion.books import Books
from bursar.ingestion.intake import Intake, Receipt
from bursar.ingestion.reprice import Repricer
from bursar.jobs.audit import AuditJob
from bursar.jobs.schedule import Job, Schedule
from bursar.pricing.engine import CostBasis, PriceBook
from bursar.settings import Settings
from bursar.storage.sql.admission import SqlAdmissionReader
from bursar.storage.sql.audit_log import SqlAuditLog
from bursar.storage.sql.cursors import SqlCursors
from bursar.storage.sql.event_pages import SqlEvents
from bursar.storage.sql.founding import SqlFounding
from bursar.storage.sql.identity import SqlIdentity
from bursar.storage.sql.keys import SqlKeys
from bursar.storage.sql.marks import Kept
from bursar.storage.sql.organisations import SqlOrganisations
from bursar.storage.sql.ports import EVERY_ORG
from bursar.storage.sql.prices import SqlPrices
from bursar.storage.sql.prices_unpriced import SqlUnpriced
from bursar.storage.sql.quarantine import SqlQuarantine
from bursar.storage.sql.reports import SqlReports
from bursar.web.edge import Edge
from bursar.web.guard import Guard
from bursar.web.metrics import HttpMetrics, LedgerMetrics
from bursar.web.principal import Authenticator
from bursar.wiring.accounts import Doors
from bursar.wiring.clients import client_routers
from bursar.wiring.dashboard import dashboard_routers
from bursar.wiring.enforcement import Enforcement
from bursar.wiring.engines import open_engine
from bursar.wiring.identity import Identity
from bursar.wiring.operator_token import operator_token

CHANGES_SECONDS = 0.5
"""How often an idle process hears what others changed; a busy one hears it before it uses what it keeps."""

ROOM_SECONDS = 3_600.0
"""How often the engine prepares for the time to come."""

FIRST_SCOPES = frozenset({Scope.INGEST, Scope.READ})
"""One key that records and reads is what a client of the four products expects."""

_log = structlog.get_logger()


class Treasury:
    """One process's open ledger, with the ASGI app over it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], int] = system_clock,
        monotonic: Callable[[], int] = monotonic_clock,
        write: Callable[[str], object] = str,
    ) -> None:
        """Open the data directory of `settings`.

        `write` prints mails where there is no mail server; by itself nobody hears it.

        Raises:
            Unavailable: Another process has it open.
        """
        self.settings = settings
        self.clock = clock
        self.engine = open_engine(settings, clock)
        self.store, self._readers = self.engine.store, self.engine.readers
        self.is_draining = False
        self.operator_token = operator_token(settings)
        self.organisations = SqlOrganisations(self.store, self._readers)
        self.keys = SqlKeys(self.store, self._readers)
        self.cursors = SqlCursors(self.store, self._readers, clock)
        self.reports = SqlReports(self._readers)
        self.events = SqlEvents(self._readers)
        self.prices = SqlPrices(self.store, self._readers, clock)
        self.books = Books(self._load_book, self.engine.changes.catch_up)
        self.engine.changes.on(Kept.PRICES, self.books.forget)
        self.enforcement = Enforcement(
            self.engine, self.keys, self.organisations, clock=clock, monotonic=monotonic
        )
        spending = self.enforcement.spending
        self.repricer = Repricer(self.store, SqlUnpriced(self._readers), self.books, clock, spending)
        self._open_doors(write)
        self.admission = Admission(
            self.organisations,
            SqlAdmissionReader(self._readers),
            clock=clock,
            monotonic=lambda: monotonic() / MICROS_PER_SECOND,
            records_beyond=settings.record_beyond_quota,
            is_shared=settings.is_shared,
        )
        self.registry = CollectorRegistry()
        self.ledger_metrics = LedgerMetrics(self.registry)
        self.intake = Intake(
            self.store,
            self.books,
            clock,
            coalesce_events_max=settings.coalesce_events_max,
            spending=spending,
            on_receipt=self._count,
        )
        audit = AuditJob(self.engine.auditor(clock), self.ledger_metrics, clock)
        self.schedule = Schedule(
            [
                Job("key_usage", settings.key_usage_seconds, self.authenticator.flush, gathers=True),
                Job("audit", settings.audit_seconds, audit.run),
                Job("room", ROOM_SECONDS, self.engine.make_room),
                Job("changes", CHANGES_SECONDS, self.engine.changes.catch_up, gathers=True),
                *self.enforcement.jobs(),
            ],
            self.engine.leading,
            runs_shared=settings.runs_jobs,
        )
        self._http_metrics = HttpMetrics(self.registry)
        self.app = self._build_app()

    def _open_doors(self, write: Callable[[str], object]) -> None:
        """Make what tells who is speaking: people, keys, the operator."""
        people = SqlIdentity(self.store, self._readers)
        self.identity = Identity(people, self.operator_token, clock=self.clock)
        self.doors = Doors(
            self.settings,
            self.identity,
            people,
            self.organisations,
            self.operator_token,
            clock=self.clock,
            write=write,
        )
        self.authenticator = Authenticator(
            self.keys, self.organisations, self.operator_token, self.clock, self.identity.persons
        )
        self.identity.on_change(self.authenticator.forget)

    async def start(self) -> None:
        """Say what is not as it should be with the database, and begin the jobs."""
        for remark in self.engine.remarks:
            _log.warning("database_remark", remark=remark)
        self.schedule.start()

    async def stop(self) -> None:
        """End the jobs, write what they gathered, close the file."""
        await self.schedule.stop()
        await self.doors.mails.stop()
        self.identity.close()
        await self.engine.close()

    def drain(self) -> None:
        """Say from now on that this process is about to end: no balancer shall send it more."""
        self.is_draining = True

    async def found(self, name: str, zone: str) -> str | None:
        """Make the first organisation with its first key, and return that; None when there is one.

        Of several processes that begin together on an empty database, one makes them.
        """
        organisation, (raw, key) = self._organisation(name, zone), self._key("first ingest key", FIRST_SCOPES)
        founding = SqlFounding(self.store)
        is_made = await founding.found(organisation, key, keys.hash_of(raw), actor="operator")
        return raw if is_made else None

    async def create_organisation(self, name: str, zone: str) -> Organisation:
        """Make an organisation.

        Raises:
            Conflict: The name is taken.
        """
        return await self.organisations.create(self._organisation(name, zone), actor="operator")

    async def create_key(
        self, org: Org, name: str, scopes: frozenset[Scope], environment: str = "local"
    ) -> str:
        """Make a key and return its raw text, which is stored nowhere."""
        raw, key = self._key(name, scopes, org=org, environment=environment)
        await self.keys.create(key, keys.hash_of(raw), actor="operator")
        return raw

    def _organisation(self, name: str, zone: str) -> Organisation:
        return Organisation(org=Org(0), id=new_id(), name=name, zone=zone, created_at=self.clock())

    def _key(
        self, name: str, scopes: frozenset[Scope], *, org: Org = EVERY_ORG, environment: str = "local"
    ) -> tuple[str, ApiKey]:
        """Return a new key's raw text, and the key."""
        raw = keys.generate(environment)
        return raw, ApiKey(
            org=org,
            number=0,
            id=new_id(),
            name=name,
            prefix=keys.shown_prefix(raw),
            scopes=scopes,
            created_at=self.clock(),
        )

    async def _load_book(self, org: Org) -> PriceBook:
        organisation = await self.organisations.get(org)
        overrides = [stored.override for stored in await self.prices.list(org)]
        return PriceBook(overrides, basis=CostBasis(organisation.cost_basis))

    async def _book(self, org: Org) -> PriceBook:
        """Return the organisation's book as it is now, with all that it can do, not only price."""
        book = await self.books.latest(org)
        assert isinstance(book, PriceBook)  # noqa: S101 - made by `_load_book`
        return book

    def _count(self, receipt: Receipt) -> None:
        """Count what became of a request's events."""
        metrics = self.ledger_metrics
        metrics.recorded.inc(receipt.recorded - len(receipt.duplicates))
        metrics.duplicates.inc(len(receipt.duplicates))
        metrics.conflicts.inc(len(receipt.conflicts))
        metrics.quarantined.inc(len(receipt.quarantined))
        metrics.unpriced.inc(receipt.unpriced)

    def system_app(self) -> ASGIApp:
        """Return the app of a process that serves nothing but health and metrics."""
        app = create_app([self._system_router()], lifespan=self._lifespan, hot_paths={})
        return Edge(app, {}, self._http_metrics)

    def _system_router(self) -> APIRouter:
        return system_router(self._probe, self.registry, self.settings.metrics_token)

    def _build_app(self) -> ASGIApp:
        settings = self.settings
        guard = Guard(self.authenticator)
        limits = BodyLimits(wire_bytes_max=settings.wire_bytes_max, bytes_max=settings.body_bytes_max)
        decoder = IngestDecoder(events_max=settings.batch_events_max)
        ingest = IngestEndpoint(
            self.authenticator, limits, decoder, self.intake, self.clock, admission=self.admission
        )
        track = TrackEndpoint(self.authenticator, limits, self.intake, self.clock, admission=self.admission)
        events = EventsEndpoint(
            self.authenticator,
            limits,
            self.intake,
            self.books,
            self.clock,
            events_max=settings.batch_events_max,
            admission=self.admission,
        )
        lists = PriceLists(self.prices, self._book, self.clock)
        routers = [
            organisations_router(
                guard,
                self.organisations,
                self.create_organisation,
                clock=self.clock,
                forget=self.authenticator.forget,
            ),
            keys_router(guard, self.keys, self.authenticator, self.clock),
            costs_router(guard, self.reports, self.clock),
            reports_router(guard, self.reports, self.clock),
            events_router(guard, self.events, self.reports),
            quarantine_router(guard, SqlQuarantine(self._readers)),
            imports_router(guard, self.cursors, limits),
            prices_router(guard, self.prices, self._book, self.books.forget, self.clock),
            models_router(guard, lists, self.prices, self.repricer, book_of=self._book, clock=self.clock),
            self._system_router(),
            *self.enforcement.routers(guard),
            *client_routers(self, guard),
            *self.identity.routers(
                guard,
                self.organisations,
                SqlAuditLog(self._readers),
                self.doors.mails,
                settings.public_url,
            ),
            *self.doors.routers(guard),
            *dashboard_routers(self, self._readers, guard),
        ]
        app = create_app(routers, lifespan=self._lifespan, hot_paths={**HOT_PATHS, **LEASE_PATHS})
        hot: dict[tuple[str, str], ASGIApp] = {
            ("POST", "/v1/ingest"): ingest,
            ("POST", "/v1/track"): track,
            ("POST", "/v1/events"): events,
            **self.enforcement.hot(self.authenticator, limits, self.intake, self.books),
        }
        return Edge(app, hot, self._http_metrics)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def _probe(self) -> dict[str, object]:
        """Ask each component; what is not configured says so."""
        return {
            "database": "ok" if await self.engine.answers() else "unavailable",
            "redis": "not_configured",
            "kafka": "not_configured",
            "engine": self.engine.version,
            "remarks": list(self.engine.remarks),
            "clock": self.enforcement.clock_state,
            "draining": self.is_draining,
        }
