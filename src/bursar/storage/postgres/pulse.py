"""Whether the server answers, for all pools of a process: nobody has to find out by waiting.

    something waits for long      →  asked on a connection of its own  →  answers: all goes on
                                                                       →  silent: away
    away      what is under way is cut, what comes is refused at once, and the server is asked
              again and again until it answers

A statement may so take as long as it needs, and a server that hangs is told of within five
seconds all the same. Also a server behind a pooler is asked: the pooler alone is no answer.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import asyncpg
import structlog

from bursar.core.errors import Unavailable

SUSPECT_S = 1.5
"""How long something waits before the server is asked whether it is there."""

LOOK_S = 0.25
ASK_S = 1.0
ASKED_TWICE = 2
"""A process that stood still itself for a moment must not take the server for silent."""

REST_S = 2.0
"""How long an answer is good while something goes on waiting."""

AGAIN_S = 0.4
"""How long after a silence it is asked again."""

_log = structlog.get_logger()


class Pulse:
    """One process's knowledge of its server.

    Args:
        address: `postgresql://…`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_away = False
        self._answered_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._waits: list[Callable[[], float | None]] = []
        self._cuts: list[Callable[[], None]] = []

    def watch(self, waits_since: Callable[[], float | None], cut: Callable[[], None]) -> None:
        """Look after a pool.

        Args:
            waits_since: When the oldest of what is under way began, by `time.monotonic`.
            cut: Ends all that is under way.
        """
        self._waits.append(waits_since)
        self._cuts.append(cut)

    def begin(self) -> None:
        """Something is under way from now on.

        Raises:
            Unavailable: The server does not answer.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self.end()
            self._loop = loop
        if self._is_away:
            raise Unavailable("the database does not answer; try again")
        if self._looking is None:
            self._looking = loop.call_later(LOOK_S, self._look)

    def lost(self) -> None:
        """Hear that a connection was refused, or ended: ask at once whether that was all of it."""
        self._answered_at = float("-inf")
        self._ask()

    def end(self) -> None:
        """Look after nothing any more."""
        self._loop = None
        self._is_away = False
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._asking is not None:
            with suppress(RuntimeError):  # its loop is closed
                self._asking.cancel()
            self._asking = None

    def _look(self) -> None:
        since = [begun for begun in (waits() for waits in self._waits) if begun is not None]
        self._looking = None
        if not since:
            return
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        now = time.monotonic()
        if now - min(since) > SUSPECT_S and now - self._answered_at > REST_S:
            self._ask()

    def _ask(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        for _ in range(ASKED_TWICE):
            if await self._answers():
                return
        self._is_away = True
        _log.warning("database_lost")
        lost_at = time.monotonic()
        for cut in self._cuts:
            cut()
        while not await self._answers():  # noqa: ASYNC110 - what changes is not in this process
            await asyncio.sleep(AGAIN_S)
        self._is_away = False
        _log.warning("database_back", after_s=round(time.monotonic() - lost_at, 1))

    async def _answers(self) -> bool:
        asked_at = time.monotonic()
        own: asyncpg.Connection | None = None
        try:
            async with asyncio.timeout(ASK_S):
                own = await asyncpg.connect(
                    self._address,
                    timeout=ASK_S,
                    statement_cache_size=0,
                    server_settings={"application_name": "bursar pulse"},
                )
                await own.execute("SELECT 1")
        except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            return False
        except asyncpg.PostgresError:
            pass  # it refuses us, so it is there; those who ask for more hear why
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            return False
        finally:
            if own is not None:
                own.terminate()
        self._answered_at = asked_at
        return True
