"""Connections to one database: made when first needed, bounded, and given up when they hang.

Not the driver's own pool: that one asks the server to reset a connection after each use, a
round trip that nothing here needs (all settings are `SET LOCAL`), and waits for connections that
hang. A connection whose statement timed out, was cancelled or met an error of the network is
cut; one that is healthy goes back to the idle ones, the latest used first.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import asyncpg

from bursar.core.errors import Unavailable
from bursar.storage.postgres.pulse import Pulse

ANSWER_S = 4.0
"""A statement that is not answered by then never is: the server hangs, or is stopped."""

WAIT_S = 4.0
"""How long a request waits for its turn, or for a connection, before it hears that the database is busy."""

LOCK_MS = 3_800
"""A lock that is not given by then: its holder is stuck, and was to be ended by `IDLE_MS`."""

IDLE_MS = 3_000
"""A transaction that waits for its client this long is ended: the client was stopped, or hangs."""

ABANDONED_MS = 1_000
"""How often a back-end at work looks whether its client is still there."""

IDLE_MAX_S = 300.0
"""A connection unused for longer is made anew: what stands between may have forgotten it."""

STATEMENTS_CACHED = 500


class Limits(NamedTuple):
    """How long things may take on the connections of a pool.

    Attributes:
        answer_s: A statement, as the client sees it.
        statement_ms: A statement, as the server sees it.
    """

    answer_s: float = ANSWER_S
    statement_ms: int = 5_000

    @property
    def settings(self) -> dict[str, str]:
        """The server's settings that follow."""
        return {
            "lock_timeout": str(LOCK_MS),
            "statement_timeout": str(self.statement_ms),
            "idle_in_transaction_session_timeout": str(IDLE_MS),
            "client_connection_check_interval": str(ABANDONED_MS),
            "jit": "off",
            "synchronous_commit": "on",
            "search_path": "bursar, public",
        }


WORK = Limits()
"""For transactions and short reads."""

REPORTS = Limits(answer_s=62.0, statement_ms=60_000)
"""For sums over millions of events; what stands before a server seldom waits longer for its answer."""


class _Idle(NamedTuple):
    own: asyncpg.Connection
    since: float


class Pool:
    """Connections of one event loop, made anew when another loop comes.

    Args:
        address: `postgresql://…`.
        size: Connections at most.
        is_pooled: Whether a pooler in transaction mode stands between: nothing may be kept on
            a connection from one transaction to the next, prepared statements neither.
        begin: What begins a transaction, `BEGIN` with its options.
        limits: How long things may take.
        prepared: Statements that a new connection runs; none where a pooler stands between.
        pulse: The process's; without, the pool has one of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        size: int,
        is_pooled: bool,
        begin: str = "BEGIN",
        limits: Limits = WORK,
        prepared: str = "",
        pulse: Pulse | None = None,
    ) -> None:
        self.size = size
        self.prepared = "" if is_pooled else prepared
        self.begin = begin
        self._lost_at = float("-inf")
        self._address = address
        self._is_pooled = is_pooled
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Semaphore(size)
        self._large_room = asyncio.Semaphore(size // 2 or 1)
        self._idle: list[_Idle] = []
        self._lent: dict[asyncpg.Connection, float] = {}
        self._connecting: dict[asyncio.Timeout, float] = {}
        self._pulse = pulse or Pulse(address)
        self._pulse.watch(self._waits_since, self._cut_all)
        if is_pooled:
            settings = (f"SET LOCAL {name} = {value}" for name, value in limits.settings.items())
            self.begin = "; ".join([begin, *settings])

    async def take(self) -> asyncpg.Connection:
        """Lend a connection; `give_back` it.

        Raises:
            Unavailable: None came free in time, or the server was found away meanwhile.
        """
        self._be_of_this_loop()
        self._pulse.begin()
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(WAIT_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise Unavailable("no connection to the database came free; try again") from error
        try:
            self.check_lost_since(asked_at)
            own = self._newest_idle() or await self._connect()
        except BaseException:
            self._room.release()
            raise
        self._lent[own] = time.monotonic()
        return own

    def give_back(self, own: asyncpg.Connection) -> None:
        """Take a connection back; one that is in the middle of something is cut."""
        if own not in self._lent:
            return
        del self._lent[own]
        if not own.is_closed() and own.is_in_transaction():
            _cut(own)
        if not own.is_closed():
            self._idle.append(_Idle(own, time.monotonic()))
        self._room.release()

    @asynccontextmanager
    async def room_for(self, *, is_large: bool) -> AsyncIterator[None]:
        """Let half as many large transactions in as there are connections, and any number of small ones."""
        if not is_large:
            yield
            return
        self._be_of_this_loop()
        asked_at = time.monotonic()
        async with self._large_room:
            self.check_lost_since(asked_at)
            yield

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection for a while."""
        own = await self.take()
        try:
            yield own
        finally:
            self.give_back(own)

    async def undo(self, own: asyncpg.Connection, error: BaseException) -> None:
        """Roll back what `error` has ended; a connection that does not answer is cut, not waited for."""
        if own.is_closed():
            self._note_lost(error)
        elif is_hanging(error):
            self._note_lost(error)
            _cut(own)
        elif own.is_in_transaction():
            try:
                await own.execute("ROLLBACK")
            except Exception:  # noqa: BLE001 - what ended the transaction is what its caller hears of
                _cut(own)
            except asyncio.CancelledError:
                _cut(own)
                raise

    def cut(self, own: asyncpg.Connection) -> None:
        """Take a connection back that is of no use any more."""
        _cut(own)
        self.give_back(own)

    def check_lost_since(self, asked_at: float) -> None:
        """Let those that waited go as soon as one of them has found that the server does not answer.

        Raises:
            Unavailable: It has.
        """
        if self._lost_at > asked_at:
            raise Unavailable("the database does not answer; try again")

    async def close(self) -> None:
        """Close every connection; those that hang are cut."""
        idle, self._idle = self._idle, []
        own_loop = self._loop is asyncio.get_running_loop()
        for one in idle:
            if own_loop:
                with suppress(Exception):
                    await one.own.close(timeout=1.0)
            _cut(one.own)
        for own in list(self._lent):
            _cut(own)
        self._pulse.end()

    def _newest_idle(self) -> asyncpg.Connection | None:
        oldest = time.monotonic() - IDLE_MAX_S
        while self._idle:
            own, since = self._idle.pop()
            if not own.is_closed() and since > oldest:
                return own
            _cut(own)
        return None

    async def _connect(self) -> asyncpg.Connection:
        own: asyncpg.Connection | None = None
        patience = asyncio.timeout(ANSWER_S)
        self._connecting[patience] = time.monotonic()
        settings = {"application_name": "bursar"}
        try:
            async with patience:
                own = await asyncpg.connect(
                    self._address,
                    timeout=ANSWER_S,
                    command_timeout=self._limits.answer_s,
                    statement_cache_size=0 if self._is_pooled else STATEMENTS_CACHED,
                    max_cached_statement_lifetime=0,
                    server_settings=settings if self._is_pooled else settings | self._limits.settings,
                )
                await prepare(own)
                if self.prepared:
                    await own.execute(self.prepared)
        except BaseException as error:
            self._note_lost(error)
            if own is not None:
                _cut(own)
            raise
        finally:
            self._connecting.pop(patience, None)
        return own

    def _note_lost(self, error: BaseException) -> None:
        if isinstance(error, (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)):
            self._pulse.lost()

    def _waits_since(self) -> float | None:
        """Return when the oldest of what is under way began."""
        return min([*self._lent.values(), *self._connecting.values()], default=None)

    def _cut_all(self) -> None:
        """End what is under way and what lies idle: the server is away."""
        self._lost_at = time.monotonic()
        for own in [*self._lent, *(one.own for one in self._idle)]:
            _cut(own)
        for patience in self._connecting:
            patience.reschedule(0)

    def _be_of_this_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            for own in [*self._lent, *(one.own for one in self._idle)]:
                _cut(own)
            self._loop, self._room = loop, asyncio.Semaphore(self.size)
            self._large_room = asyncio.Semaphore(self.size // 2 or 1)
            self._idle, self._lent, self._connecting = [], {}, {}


def is_hanging(error: BaseException) -> bool:
    """Whether the connection that raised it must not be waited for."""
    return not isinstance(error, asyncpg.PostgresError) and isinstance(
        error, (asyncio.CancelledError, TimeoutError, OSError, asyncpg.InternalClientError, GeneratorExit)
    )


def _cut(own: asyncpg.Connection) -> None:
    with suppress(RuntimeError):  # the loop that it belonged to is closed
        own.terminate()


async def prepare(own: asyncpg.Connection) -> None:
    """Let sums of integers come as integers. One transaction, or a pooler would change backends between."""
    await own.execute("BEGIN")
    await own.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text")
    await own.execute("COMMIT")


def _number(text: str) -> Any:  # noqa: ANN401 - an integer wherever it is one
    return int(text) if "." not in text else float(text)
