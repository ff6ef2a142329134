"""Clients that never pause: each holds, settles and records on kept connections, and books the answers.

with Traffic(lambda: server.base_url, server.token) as traffic:
    ...
assert traffic.failures == []
"""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

COST_NUSD = 1_000_000
COST_USD = "0.001"
PAUSE_S = 0.1
"""Between two rounds: most connections are idle at any moment, as those that a closing server cuts are."""

BUSY = {429, 503}
"""What says that nothing was done, and that the same may be sent again."""

_names = itertools.count()


class Answer(NamedTuple):
    """One request that was answered, or was not."""

    begun: float
    took_s: float
    url: str
    status: int
    text: str


class Traffic:
    """Threads that send until the end of the block.

    Args:
        pick: Where to send the next round.
        token: The operator's, or a key that may do everything.
        clients: Threads.
        patience_s: How long a client waits for an answer before it sends the same once more,
            to whatever `pick` says then. None never sends twice: no answer is a failure.

    Attributes:
        failures: What went wrong, a sentence each.
        answers: Everything that was answered.
        events: How many events were acknowledged; each costs `COST_NUSD`.
    """

    def __init__(
        self, pick: Callable[[], str], token: str, *, clients: int = 8, patience_s: float | None = None
    ) -> None:
        self._pick = pick
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._patience_s = patience_s
        self._name = f"t{next(_names)}"
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]
        self.failures: list[str] = []
        self.answers: list[Answer] = []
        self.events = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def wait_for(self, more: int, seconds: float = 20) -> None:
        """Return when `more` events were acknowledged from now on."""
        aim = self.events + more
        deadline = time.monotonic() + seconds
        while self.events < aim:
            assert time.monotonic() < deadline, f"{self.events} of {aim}: {self.failures[:3]}"
            assert not self.failures, self.failures[:3]
            time.sleep(0.02)

    def _send(self) -> None:
        kept: dict[str, http.client.HTTPConnection] = {}
        while not self._over.is_set() and len(self.failures) < 20:
            self._round(kept, f"{self._name}-{next(self._numbers)}")
            time.sleep(PAUSE_S)
        for connection in kept.values():
            connection.close()

    def _round(self, kept: dict[str, http.client.HTTPConnection], key: str) -> None:
        hold = {"agent": "bot", "model": "gpt-4o", "amount_usd": COST_USD, "idempotency_key": f"h{key}"}
        held = self._post(kept, "/v1/holds", hold, {200, 201})
        if held is None:
            return
        settled = self._post(kept, f"/v1/holds/{held['id']}/settle", {"cost_usd": COST_USD}, {200, 201})
        event = {
            "agent_name": "bot", "provider": "openai", "model": "gpt-4o", "input_tokens": 1,
            "output_tokens": 1, "cost": COST_USD, "idempotency_key": f"e{key}",
            "timestamp": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        recorded = self._post(kept, "/v1/ingest", {"events": [event]}, {202})
        with self._lock:
            self.events += (settled is not None) + (recorded is not None)

    def _post(
        self, kept: dict[str, http.client.HTTPConnection], path: str, body: object, good: set[int]
    ) -> dict[str, Any] | None:
        while True:
            url = self._pick()
            begun = time.monotonic()
            try:
                status, text = self._once(kept, url, path, json.dumps(body))
            except (OSError, http.client.HTTPException) as error:
                kept.pop(url).close()
                if self._patience_s is not None and not self._over.is_set():
                    continue
                self.failures.append(f"{path}: {type(error).__name__} {error}")
                return None
            self.answers.append(Answer(begun, time.monotonic() - begun, url, status, text))
            if status in good:
                return dict(json.loads(text))
            if status in BUSY and self._patience_s is not None and not self._over.is_set():
                continue
            self.failures.append(f"{path}: {status} {text}")
            return None

    def _once(
        self, kept: dict[str, http.client.HTTPConnection], url: str, path: str, body: str
    ) -> tuple[int, str]:
        if url not in kept:
            kept[url] = http.client.HTTPConnection(urlsplit(url).netloc, timeout=self._patience_s or 20)
        kept[url].request("POST", path, body, self._headers)
        answer = kept[url].getresponse()
        return answer.status, answer.read().decode()
