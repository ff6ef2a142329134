"""Fifty threads call a provider until their agent's budget is used up, and not a cent further.

    bursar budgets create 1 --agent bot
    export BURSAR_KEY=ak_…            # the key that `bursar serve` printed at its first start
    python examples/fifty_threads.py

Needs nothing but Python. The provider is a fake: it takes some milliseconds and bills one cent a
call. Each thread asks before it calls, and says afterwards what the call has cost:

    POST /v1/holds              may this call cost a cent?      201 go on, 402 no room, 403 stopped
    POST /v1/holds/{id}/settle  it has cost a cent
"""

import argparse
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

CALL_USD = Decimal("0.01")
PAUSE_S = (0.02, 0.08)


class Refused(Exception):
    """The treasurer says no; `problem` is its answer."""

    def __init__(self, status: int, problem: dict[str, object]) -> None:
        super().__init__(problem["detail"])
        self.status = status
        self.problem = problem


class Treasurer:
    """The two requests around a call."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key

    def hold(self, agent: str) -> str:
        """Set a cent aside; return the hold's id.

        Raises:
            Refused: There is no room, or the agent is stopped.
        """
        asked = {
            "idempotency_key": str(uuid.uuid4()),
            "agent": agent,
            "provider": "fake",
            "model": "fake-1",
            "amount_usd": str(CALL_USD),
        }
        return str(self._post("/v1/holds", asked)["id"])

    def settle(self, hold_id: str, cost_usd: Decimal) -> None:
        """Say what the call has cost."""
        self._post(f"/v1/holds/{hold_id}/settle", {"cost_usd": str(cost_usd)})

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        request = urllib.request.Request(
            self._url + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.load(error)) from None


class Provider:
    """A fake: takes a while, bills a cent, and remembers how much it has billed in all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.billed_usd = Decimal(0)
        self.calls: Counter[str] = Counter()

    def call(self, caller: str) -> Decimal:
        """Answer one call; return what it costs."""
        time.sleep(random.uniform(*PAUSE_S))
        with self._lock:
            self.billed_usd += CALL_USD
            self.calls[caller] += 1
        return CALL_USD

    def bill(self) -> str:
        """Return what it has billed, in words."""
        return f"billed {self.billed_usd:>5} USD in {self.calls.total():>4} calls"


def work(treasurer: Treasurer, provider: Provider, agent: str, refusals: list[Refused]) -> None:
    """Call the provider until the treasurer refuses."""
    while True:
        try:
            hold_id = treasurer.hold(agent)
        except Refused as refusal:
            refusals.append(refusal)
            return
        treasurer.settle(hold_id, provider.call(threading.current_thread().name))


def main() -> None:
    """Run the threads, and print what the provider has billed and why they stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default=os.environ.get("BURSAR_URL", "http://127.0.0.1:8317"))
    parser.add_argument("--key", default=os.environ.get("BURSAR_KEY", ""))
    parser.add_argument("--agent", default="bot")
    parser.add_argument("--threads", type=int, default=50)
    options = parser.parse_args()
    if not options.key:
        parser.error("set BURSAR_KEY, or give --key")
    provider = Provider()
    refusals: list[Refused] = []
    treasurer = Treasurer(options.url, options.key)
    given = (treasurer, provider, options.agent, refusals)
    threads = [threading.Thread(target=work, args=given) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        print(f"\r{provider.bill()}", end="", flush=True)
        time.sleep(0.1)
    print(f"\r{provider.bill()} by {len(threads)} threads")
    for sentence, count in Counter(str(refusal) for refusal in refusals).most_common(3):
        print(f"{count} threads were refused: {sentence}")


if __name__ == "__main__":
    main()
