"""A connection to PostgreSQL that is cut once the n-th statement was carried out and nobody has heard of it.

    client  →  CuttingProxy (counts `Query` and `Sync`, the two messages that end a round trip)  →  server

The answer of the chosen statement is dropped, and with it the connection: what the client has to
assume of its transaction is as open as it can be.
"""

import contextlib
import socket
import threading

from support.proxy import Proxy

HEAD_BYTES = 5
ROUND_TRIPS = frozenset(b"QS")
LOOKING = b"bursar pulse"
"""The name of connections that only ask whether the server is there: they do no work and are not counted."""


class CuttingProxy(Proxy):
    """A proxy that knows where one message of a client ends and the next one begins.

    Attributes:
        seen: Round trips since it was armed.
        is_done: It has cut a connection since then.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._counting = threading.Lock()
        self._at = 0
        self.seen = 0
        self.is_done = False

    def arm(self, statement: int) -> None:
        """Cut at this statement from now on, the first being 1; 0 only counts."""
        with self._counting:
            self._at, self.seen, self.is_done = statement, 0, False

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(self._target, 2)
            except OSError:
                return
            with far:
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                doomed = threading.Event()
                back = threading.Thread(target=self._answers, args=(far, near, doomed), daemon=True)
                back.start()
                with contextlib.suppress(OSError):
                    self._questions(near, far, doomed)
                with contextlib.suppress(OSError):
                    far.shutdown(socket.SHUT_RDWR)
                back.join()

    def _questions(self, near: socket.socket, far: socket.socket, doomed: threading.Event) -> None:
        is_looking = False
        while True:
            head = _exactly(near, HEAD_BYTES)
            # Messages before the log-in have no letter, but begin with their length at once.
            length = int.from_bytes(head[1:], "big") + 1 if head[0] else int.from_bytes(head[:4], "big")
            message = head + _exactly(near, length - HEAD_BYTES)
            is_looking |= not head[0] and LOOKING in message
            if not is_looking and head[0] in ROUND_TRIPS and self._is_chosen():
                doomed.set()
            far.sendall(message)

    def _is_chosen(self) -> bool:
        with self._counting:
            self.seen += 1
            is_chosen = self.seen == self._at
            self.is_done |= is_chosen
            return is_chosen

    @staticmethod
    def _answers(far: socket.socket, near: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                # The statement is done once the server answers; what it says is lost.
                if doomed.is_set():
                    break
                near.sendall(data)
        for one in (near, far):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            raise ConnectionAbortedError
        parts += part
    return bytes(parts)
