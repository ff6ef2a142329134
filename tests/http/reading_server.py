"""The reading routes over a real ledger file, asked through the framework's own app."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from bursar.core.ids import Org, new_id
from bursar.core.usage import UsageEvent
from bursar.http.app import create_app
from bursar.http.v1.costs import costs_router
from bursar.http.v1.events_read import events_router
from bursar.http.v1.reports import reports_router
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.ingestion.pipeline import process_batch
from bursar.pricing.engine import PriceBook
from bursar.settings import Settings
from bursar.web.guard import Guard
from bursar.wiring import Treasury
from support.engines import Database, database_of

NOW = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
READ = frozenset({Scope.READ})


class ReadingServer:
    """One data directory, its routes, and keys for the organisations in it."""

    def __init__(self, place: Database | Path) -> None:
        database = database_of(place)
        self._runner = asyncio.Runner()
        self.treasury = Treasury(Settings(data_dir=database.folder, **database.settings), clock=lambda: NOW)
        guard = Guard(self.treasury.authenticator)
        reports, events = self.treasury.reports, self.treasury.events
        routers = [
            costs_router(guard, reports, lambda: NOW),
            reports_router(guard, reports, lambda: NOW),
            events_router(guard, events, reports),
        ]
        self._app = create_app(routers, lifespan=None, hot_paths={})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._runner.run(self.treasury.stop())
        self._runner.close()

    def organisation(self, name: str, zone: str = "UTC") -> Org:
        return self._runner.run(self.treasury.create_organisation(name, zone)).org

    def key(self, org: Org, scopes: frozenset[Scope] = READ, project: str = "", agent: str = "") -> str:
        raw = keys.generate("local")
        key = ApiKey(
            org=org,
            number=0,
            id=new_id(),
            name="a key",
            prefix=keys.shown_prefix(raw),
            scopes=scopes,
            project=project,
            agent=agent,
        )
        self._runner.run(self.treasury.keys.create(key, keys.hash_of(raw), actor="operator"))
        return raw

    def record(self, org: Org, events: Sequence[UsageEvent]) -> None:
        async def write() -> None:
            await self.treasury.store.transact(
                lambda tx: process_batch(tx.unit(org), events, PriceBook(()), now=NOW)
            )

        self._runner.run(write())

    def get(self, path: str, key: str, **params: object) -> httpx2.Response:
        async def ask() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=self._app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://bursar") as client:
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                return await client.get(path, params={k: str(v) for k, v in params.items()}, headers=headers)

        return self._runner.run(ask())
