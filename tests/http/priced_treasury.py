"""A whole treasury in this process, asked through its own app: what the price routes are tested on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import uuid_utils

from bursar.core.ids import Org
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.identity.keys import Scope
from bursar.ingestion.intake import Receipt
from bursar.ledger.verification import Violation
from bursar.settings import Settings
from bursar.wiring import Treasury
from support.engines import Database, database_of

NOON = 1_772_366_400_000_000  # 2026-03-01T12:00:00Z
HOUR = 3_600_000_000
ADMIN, READ, INGEST = (frozenset({scope}) for scope in (Scope.ADMIN, Scope.READ, Scope.INGEST))


def call(at: int = NOON, *, provider: str = "acme", model: str = "own", **fields: object) -> UsageEvent:
    counts = {"input_tokens": 100, "output_tokens": 10, **fields}
    subject = Subject("bot", provider, model)
    return UsageEvent(
        key=uuid_utils.uuid7().bytes, occurred_at=at, subject=subject, source=Source.INGEST, **counts
    )


class PricedTreasury:
    """One data directory with two organisations, `acme` and `other`; its clock stands where it is put."""

    def __init__(self, place: Database | Path) -> None:
        self.database = database_of(place)
        self._runner = asyncio.Runner()
        self.now = NOON
        self._treasury = Treasury(
            Settings(data_dir=self.database.folder, **self.database.settings), clock=lambda: self.now
        )
        self.acme, self.other = (self._organisation(name) for name in ("acme", "other"))
        self.admin, self.stranger = (self.key(org, ADMIN) for org in (self.acme, self.other))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._runner.run(self._treasury.stop())
        self._runner.close()

    def _organisation(self, name: str) -> Org:
        return self._runner.run(self._treasury.create_organisation(name, "UTC")).org

    def key(self, org: Org, scopes: frozenset[Scope]) -> str:
        return self._runner.run(self._treasury.create_key(org, "a key", scopes))

    def record(self, *events: UsageEvent, org: Org | None = None) -> Receipt:
        return self._runner.run(self._treasury.intake.record(org or self.acme, events))

    def violations(self) -> Sequence[Violation]:
        return self.database.verify().violations

    def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - passed on to the client
    ) -> httpx2.Response:
        """Send one request, as acme's admin unless `key` is given; empty text sends no credential."""

        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=self._treasury.app)
            credential = self.admin if key is None else key
            own = {"Authorization": f"Bearer {credential}"} if credential else {}
            async with httpx2.AsyncClient(transport=transport, base_url="http://bursar") as client:
                return await client.request(method, path, headers={**own, **(headers or {})}, **options)

        return self._runner.run(send())

    def get(self, path: str, *, key: str | None = None, **params: object) -> httpx2.Response:
        return self.ask("GET", path, key=key, params={name: str(value) for name, value in params.items()})

    def post(self, path: str, body: object, *, key: str | None = None) -> httpx2.Response:
        return self.ask("POST", path, key=key, json=body)

    def put_price(self, **body: object) -> dict[str, Any]:
        """Set a price that holds always, for `acme/own` unless the body says otherwise."""
        rates = {} if "percent" in body else {"per_million": {"input_tokens": "2.50", "output_tokens": 10}}
        answer = self.post("/v1/prices", {"pattern": "acme/own", "valid_from": "always"} | rates | body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def total(self, org: Org | None = None) -> dict[str, Any]:
        """The sums of all usage as `/v1/costs` reports them."""
        key = self.admin if org in {None, self.acme} else self.stranger
        answer = self.get("/v1/costs", key=key, **{"from": "2026-01-01", "to": "2026-12-31"})
        return answer.json()["meta"]["total"]
