"""Connections to one database: made when first needed, bounded, and given up when they hang."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from bursar.core.errors import Unavailable

ACQUIRE_S = 4.0
"""How long a request waits for a connection before it hears that the database is busy or away."""

COMMAND_S = 10.0
LOCK_MS = 4_000
"""A lock that is not given by then: its holder is stuck, and will be ended by `IDLE_MS`."""

IDLE_MS = 3_000
"""A transaction that waits for its client this long is ended: the client was stopped, or hangs."""

STATEMENTS_CACHED = 400

_LIMITS = (
    f"SET LOCAL lock_timeout = {LOCK_MS}; SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}; "
    "SET LOCAL jit = off; SET LOCAL search_path = bursar, public"
)


class Pool:
    """A pool of asyncpg connections, bound to the event loop that first uses it.

    Args:
        address: `postgresql://…`.
        size: Connections at most.
        is_pooled: Whether a pooler in transaction mode stands between: nothing may be kept on
            a connection from one transaction to the next, prepared statements neither.
        begin: What begins a transaction, `BEGIN` with its options.
    """

    def __init__(self, address: str, *, size: int, is_pooled: bool, begin: str = "BEGIN") -> None:
        self.size = size
        self.begin = f"{begin}; {_LIMITS}"
        self._address = address
        self._is_pooled = is_pooled
        self._made: asyncpg.Pool | None = None
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection.

        Raises:
            Unavailable: None came free in time.
        """
        pool = self._made or await self._make()
        try:
            own = await pool.acquire(timeout=ACQUIRE_S)
        except TimeoutError as error:
            raise Unavailable("no connection to the database came free; try again") from error
        try:
            yield own
        finally:
            await pool.release(own)

    async def undo(self, own: asyncpg.Connection) -> None:
        """Roll back; a connection that cannot even do that is given up."""
        if own.is_closed():
            return
        try:
            await own.execute("ROLLBACK", timeout=ACQUIRE_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            own.terminate()

    async def close(self) -> None:
        """Close every connection; those that hang are cut."""
        if self._made is not None:
            made, self._made = self._made, None
            with suppress(TimeoutError):
                await asyncio.wait_for(made.close(), ACQUIRE_S)
            made.terminate()

    async def _make(self) -> asyncpg.Pool:
        async with self._making:
            if self._made is None:
                self._made = await asyncpg.create_pool(
                    self._address,
                    min_size=0,
                    max_size=self.size,
                    command_timeout=COMMAND_S,
                    timeout=ACQUIRE_S,
                    statement_cache_size=0 if self._is_pooled else STATEMENTS_CACHED,
                    init=_prepare,
                    reset=_left_alone if self._is_pooled else None,
                    server_settings={"application_name": "bursar"},
                )
            return self._made


async def _prepare(own: asyncpg.Connection) -> None:
    """Let sums of integers come as integers. One transaction, or a pooler would change backends between."""
    await own.execute("BEGIN")
    await own.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text")
    await own.execute("COMMIT")


async def _left_alone(_own: asyncpg.Connection) -> None:
    """Keep nothing between transactions, so reset nothing."""


def _number(text: str) -> Any:  # noqa: ANN401 - an integer wherever it is one
    return int(text) if "." not in text else float(text)
