"""The whole app over a real ledger, asked in this process without a socket.

with open_desk(database) as desk:
    desk.post("/v1/ingest", {"events": [event()]})
"""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2

from bursar.core.ids import Org, new_id
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.settings import Settings
from bursar.wiring import Treasury
from support.engines import Database, database_of

NOW = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
ALL = frozenset(Scope)
Result = TypeVar("Result")


def event(**fields: object) -> dict[str, object]:
    """An event as the reference has it, priced at 11,750,000 nano-USD, with `fields` over it."""
    plain: dict[str, object] = {
        "agent_name": "research-bot",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1500,
        "output_tokens": 800,
        "cost": 0,
        "timestamp": "2026-03-01T14:00:00Z",
    }
    return plain | fields


class Desk:
    """A treasury with one organisation, a key that may do everything, and a client."""

    def __init__(
        self, database: Database, runner: asyncio.Runner, organisation: str, settings: Mapping[str, object]
    ) -> None:
        self._runner = runner
        self.database = database
        self.folder = database.folder
        self._settings = settings
        self.printed: list[str] = []
        """What the server printed: mails, where no mail server is configured."""
        self.now = NOW
        self.clock_is_off = 0
        """By how much the wall clock differs from the time that passes, microseconds."""
        self._open()
        self.org = self.organisation(organisation)
        self.key = self.new_key()

    def _open(self) -> None:
        self.treasury = Treasury(
            Settings(data_dir=self.folder, **self.database.settings, **self._settings),  # type: ignore[arg-type] # checked there
            clock=lambda: self.now + self.clock_is_off,
            monotonic=lambda: self.now,
            write=self.printed.append,
        )
        transport = httpx2.ASGITransport(app=self.treasury.app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://bursar")

    def restart(self) -> None:
        """Stop the program, and start it again on the same ledger."""
        self.close()
        self._open()

    def start_on(self, database: Database) -> None:
        """Start the closed program on another database."""
        self.database, self.folder = database, database.folder
        self._open()

    def run(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self._runner.run(wait())

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due by then happen."""
        self.now += round(seconds * 1_000_000)
        self.run(self.treasury.enforcement.run_due())

    def organisation(self, name: str) -> Org:
        return self.run(self.treasury.create_organisation(name, "UTC")).org

    def new_key(
        self, *scopes: Scope, org: Org | None = None, project: str = "", agent: str = "", text: str = ""
    ) -> str:
        """Return a fresh key of `scopes` (all of them by default), or store `text` as one."""
        raw = text or keys.generate("local")
        key = ApiKey(
            org=self.org if org is None else org,
            number=0,
            id=new_id(),
            name="a key",
            prefix=keys.shown_prefix(raw),
            scopes=frozenset(scopes) or ALL,
            project=project,
            agent=agent,
        )
        self.run(self.treasury.keys.create(key, keys.hash_of(raw), actor="operator"))
        return raw

    def send(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: object,
    ) -> httpx2.Response:
        """Send one request; `key=""` sends no credential."""
        shown = self.key if key is None else key
        sent = ({"Authorization": f"Bearer {shown}"} if shown else {}) | dict(headers or {})
        asked = self.client.request(method, path, headers=sent, **options)  # type: ignore[arg-type]
        return self.run(asked)

    def post(
        self, path: str, body: object, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        return self.send("POST", path, key=key, headers=headers, json=body)

    def ingest(self, *events: object, key: str | None = None) -> httpx2.Response:
        """Post a batch as the published client does: compressed."""
        body = gzip.compress(json.dumps({"events": events}).encode(), 1)
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return self.send("POST", "/v1/ingest", key=key, headers=headers, content=body)

    def get(self, path: str, *, key: str | None = None, **params: str) -> httpx2.Response:
        return self.send("GET", path, key=key, params=params)

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the database itself, beside the server."""
        return self.database.rows(query, *values)

    def one(self, query: str, *values: object) -> tuple[object, ...]:
        """Return the only row of a query."""
        (row,) = self.rows(query, *values)
        return row

    def recorded(self, org: Org | None = None) -> int:
        number = self.org if org is None else org
        return int(str(self.one("SELECT count(*) FROM event WHERE org = ?", number)[0]))

    def violations(self) -> Sequence[object]:
        """Prove the whole ledger; nothing when every sum agrees."""
        return self.database.verify().violations

    def close(self) -> None:
        self.run(self.client.aclose())
        self.run(self.treasury.stop())


@contextmanager
def open_desk(place: Database | Path, organisation: str = "first", **settings: object) -> Iterator[Desk]:
    """Open a treasury on a database, or on a file in a directory, with a new organisation; close it."""
    with asyncio.Runner() as runner:
        desk = Desk(database_of(place), runner, organisation, settings)
        try:
            yield desk
        finally:
            desk.close()
            desk.database.release()
