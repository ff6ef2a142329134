"""Which process runs a job: whoever holds the job's advisory lock, until it ends or hangs.

The locks of all jobs that this process leads are held by one transaction on a connection of
its own, so that they work behind a pooler too. It says a word every `WORD_S`; the server ends
it when it hears none for `SILENCE_MS`, and then another process leads. Two may overlap for
that long, which does no harm: what a job does is decided within an organisation's lock.
"""

import asyncio
from contextlib import suppress

import asyncpg

from bursar.storage.postgres import locks
from bursar.storage.postgres.errors import translated_errors
from bursar.storage.postgres.opening import CONNECT_S

WORD_S = 2.0
SILENCE_MS = 10_000


class Leadership:
    """One process's; `address` is the database's."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._own: asyncpg.Connection | None = None
        self._led: set[str] = set()
        self._talking: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def takes(self, job: str) -> bool:
        """Whether this process leads `job`, from now on if nobody else does.

        Raises:
            Unavailable: The database does not answer.
        """
        if self._loop is not asyncio.get_running_loop():
            self._drop()
            self._loop, self._turn = asyncio.get_running_loop(), asyncio.Lock()
        async with self._turn:
            own = self._own
            if own is not None and own.is_closed():
                self._drop()
            if job in self._led:
                return True
            try:
                with translated_errors():
                    return await self._try(job)
            except BaseException:
                self._drop()
                raise

    def end(self) -> None:
        """Let others lead."""
        self._drop()

    async def _try(self, job: str) -> bool:
        own = self._own or await self._begin()
        if await locks.taken(own, locks.leading(job)):
            self._led.add(job)
            return True
        if not self._led:
            self._drop()
        return False

    async def _begin(self) -> asyncpg.Connection:
        own = self._own = await asyncpg.connect(
            self._address,
            timeout=CONNECT_S,
            command_timeout=CONNECT_S,
            statement_cache_size=0,
            server_settings={"application_name": "bursar jobs"},
        )
        await own.execute(f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {SILENCE_MS}")
        self._talking = asyncio.create_task(self._talk(own))
        return own

    async def _talk(self, own: asyncpg.Connection) -> None:
        while not own.is_closed():
            await asyncio.sleep(WORD_S)
            async with self._turn:
                try:
                    await own.execute("SELECT")
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                    own.terminate()

    def _drop(self) -> None:
        own, self._own = self._own, None
        talking, self._talking = self._talking, None
        self._led.clear()
        with suppress(RuntimeError):  # the loop that they belonged to is closed
            if talking is not None:
                talking.cancel()
            if own is not None:
                own.terminate()
