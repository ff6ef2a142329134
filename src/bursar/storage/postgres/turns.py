"""Who of this process is next to write an organisation, so that waiting takes no connection.

The database's lock is what keeps processes apart. Before it stands a queue in each process: only
its head asks for a connection and for the lock, so that one busy organisation does not take the
connections from the others, and no process has more than one place in the database's queue. Small
transactions (authorisations) go before large ones (batches of events), a few at a time.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from bursar.core.errors import Unavailable
from bursar.core.ids import Org

SMALL_IN_A_ROW = 4
"""Small ones that go before a large one that waits: it gets its turn in any case."""

LARGE_WAIT_S = 20.0
"""How long a batch waits for its turn: longer than an authorisation, as nobody waits for its answer."""


class _Queue:
    def __init__(self) -> None:
        self.small: deque[asyncio.Future[None]] = deque()
        self.large: deque[asyncio.Future[None]] = deque()
        self.small_in_a_row = 0

    def next(self) -> "asyncio.Future[None] | None":
        """Return whose turn it is, taken out of the queue."""
        while self.small or self.large:
            takes_small = self.small and not (self.large and self.small_in_a_row >= SMALL_IN_A_ROW)
            turn = (self.small if takes_small else self.large).popleft()
            self.small_in_a_row = self.small_in_a_row + 1 if takes_small else 0
            if not turn.done():
                return turn
        return None


class Turns:
    """The queues of a process, by organisation."""

    def __init__(self, small_wait_s: float) -> None:
        self._small_wait_s = small_wait_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: dict[Org, _Queue] = {}

    async def take(self, org: Org, *, is_large: bool, check: Callable[[], None]) -> None:
        """Wait for the turn of `org`; `give_back` it.

        `check` is called when the turn comes, and raises when there is no point in it any more.

        Raises:
            Unavailable: It did not come in time.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._queues = loop, {}
        queue = self._queues.get(org)
        if queue is None:
            self._queues[org] = _Queue()
            return
        turn: asyncio.Future[None] = loop.create_future()
        (queue.large if is_large else queue.small).append(turn)
        try:
            async with asyncio.timeout(LARGE_WAIT_S if is_large else self._small_wait_s):
                await turn
            check()
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(org)
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise Unavailable("too much waits for this organisation; try again") from error
            raise

    def give_up(self, org: Org) -> None:
        """Send everybody home who waits: the database does not give the lock, and would not to them."""
        queue = self._queues.get(org)
        if queue is not None:
            for turn in (*queue.small, *queue.large):
                if not turn.done():
                    turn.set_exception(Unavailable("the database is held up; try again"))
            queue.small.clear()
            queue.large.clear()

    def give_back(self, org: Org) -> None:
        """Let the next one go on."""
        queue = self._queues.get(org)
        if queue is None:
            return
        turn = queue.next()
        if turn is None:
            del self._queues[org]
        else:
            turn.set_result(None)
