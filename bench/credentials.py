"""What it costs to know who is speaking: an API key and an access token, known a moment ago or not.

Run it with `.venv/bin/python bench/credentials.py`.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from bursar.identity.keys import Scope
from bursar.settings import Settings
from bursar.wiring import Treasury
from results import Figure, Results

CHOSEN = "correct horse battery"
ROUNDS = 9
CHECKS = 2_000


def main() -> None:
    """Make a ledger with one key and one person, and check both."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> None:
    results = Results("credentials")
    treasury = Treasury(Settings(data_dir=folder))
    org = (await treasury.create_organisation("bench", "UTC")).org
    accounts = treasury.identity.accounts
    code = (await accounts.register("bench@example.com", CHOSEN, "theirs")).code
    token = (await accounts.verify_email("bench@example.com", code)).token
    key = await treasury.create_key(org, "bench", frozenset({Scope.INGEST}))
    for name, credential in (("API key", key), ("access token", token)):
        headers = [(b"authorization", f"Bearer {credential}".encode())]
        known = min([await _known(treasury, headers) for _ in range(ROUNDS)])
        results.add(Figure(f"{name}, known within the last second", known, "µs", 20.0, at_least=False))
        unknown = await _unknown(treasury, headers)
        results.add(Figure(f"{name}, not known", unknown, "µs", 200.0, at_least=False))
    await treasury.stop()


async def _known(treasury: Treasury, headers: list[tuple[bytes, bytes]]) -> float:
    await treasury.authenticator.principal(headers)
    begin = time.perf_counter()
    for _ in range(CHECKS):
        await treasury.authenticator.principal(headers)
    return (time.perf_counter() - begin) / CHECKS * 1e6


async def _unknown(treasury: Treasury, headers: list[tuple[bytes, bytes]]) -> float:
    took = []
    for _ in range(CHECKS):
        treasury.authenticator.forget()
        begin = time.perf_counter()
        await treasury.authenticator.principal(headers)
        took.append((time.perf_counter() - begin) * 1e6)
    return median(took)


if __name__ == "__main__":
    main()
