"""Several processes on one database: treasuries that share nothing but it, each with memory of its own.

with open_fleet(database) as fleet:
    fleet.first.keys.revoke(…)
    fleet.get(1, "/v1/events", key)      asks the second one

They run in one event loop, so that a test can let them meet at one moment; their connections
are their own, and so is everything that they keep in memory. `support.server` starts real ones.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2

from bursar.core.ids import Org, new_id
from bursar.core.time import monotonic_clock, system_clock
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.settings import Settings
from bursar.wiring import Treasury
from support.engines import Database

Result = TypeVar("Result")
ALL = frozenset(Scope)
GIVE_UP_S = 5.0


class Fleet:
    """Treasuries on one database, with an organisation and a key that may do everything."""

    def __init__(
        self,
        database: Database,
        runner: asyncio.Runner,
        count: int,
        clocks: dict[str, Callable[[], int]],
        settings: dict[str, Any],
    ) -> None:
        self._runner = runner
        self.database = database
        self.mails: list[str] = []
        """What all of them printed."""
        given: dict[str, Any] = {"data_dir": database.folder, **database.settings, **settings}
        self.treasuries = [
            Treasury(Settings(**given), write=self.mails.append, **clocks) for _ in range(count)
        ]
        self.clients = [
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=one.app), base_url="http://bursar")
            for one in self.treasuries
        ]
        self.org = self.organisation(f"first {uuid.uuid4()}")
        self.key = self.new_key()

    @property
    def first(self) -> Treasury:
        return self.treasuries[0]

    @property
    def second(self) -> Treasury:
        return self.treasuries[1]

    def run(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self._runner.run(wait())

    def at_once(self, *work: Coroutine[Any, Any, Result]) -> list[Result | BaseException]:
        """Let all of it meet; return results and errors, in order."""

        async def all_of_it() -> list[Result | BaseException]:
            return await asyncio.gather(*work, return_exceptions=True)

        return self._runner.run(all_of_it())

    def organisation(self, name: str) -> Org:
        return self.run(self.first.create_organisation(name, "UTC")).org

    def new_key(self, *scopes: Scope, org: Org | None = None) -> str:
        """Return a fresh key of `scopes`, all of them by default."""
        raw = keys.generate("local")
        self.run(
            self.first.keys.create(self.key_of(raw, org or self.org, *scopes), keys.hash_of(raw), actor="t")
        )
        return raw

    def key_of(self, raw: str, org: Org, *scopes: Scope) -> ApiKey:
        return ApiKey(
            org=org,
            number=0,
            id=new_id(),
            name="a key",
            prefix=keys.shown_prefix(raw),
            scopes=frozenset(scopes) or ALL,
            created_at=self.first.clock(),
        )

    async def ask(
        self, place: int, method: str, path: str, key: str | None = None, **options: object
    ) -> httpx2.Response:
        """Send one request to the process at `place`."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        asked = self.clients[place].request(method, path, headers=headers, **options)  # type: ignore[arg-type]
        return await asked

    def send(
        self, place: int, method: str, path: str, key: str | None = None, **options: object
    ) -> httpx2.Response:
        return self.run(self.ask(place, method, path, key, **options))

    async def until(
        self, place: int, status: int, method: str, path: str, key: str | None = None, **options: object
    ) -> float:
        """Ask again and again, as a busy client does, until `status` comes; return the seconds it took."""
        begun = time.monotonic()
        while (await self.ask(place, method, path, key, **options)).status_code != status:
            await asyncio.sleep(0.005)
            if time.monotonic() - begun > GIVE_UP_S:
                raise TimeoutError(f"{path} never answered {status}")
        return time.monotonic() - begun

    def close(self) -> None:
        for client in self.clients:
            self.run(client.aclose())
        for one in self.treasuries:
            self.run(one.stop())


@contextmanager
def open_fleet(
    database: Database,
    count: int = 2,
    *,
    clock: Callable[[], int] = system_clock,
    monotonic: Callable[[], int] = monotonic_clock,
    **settings: object,
) -> Iterator[Fleet]:
    """Open `count` treasuries on `database`, and close them."""
    with asyncio.Runner() as runner:
        fleet = Fleet(database, runner, count, {"clock": clock, "monotonic": monotonic}, settings)
        try:
            yield fleet
        finally:
            fleet.close()
