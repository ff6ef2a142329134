"""Posts one batch again and again in a child that is killed at its n-th SQL statement.

Prints one JSON line a kill: the statement, what the file holds afterwards, and violations.
A process of its own, because it forks.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from audited_ledger import HOUR, NOON, AuditedLedger, event

from support.crash import is_killed, kill_at

BATCH = [
    event("fresh", agent="new", run="r2", reported_nusd=7),
    event("fresh2", NOON + HOUR, model="unheard-of", user="u", prompt="kept"),
    event("known"),
    event("revised", NOON + 2 * HOUR, revision=1, agent="other", run="r3"),
    event("fresh", revision=1, model="o3"),
    event("clash", input_tokens=1),
]
REPEAT_EACH = 8
"""Kills after which the batch is sent again, as its client would."""


def prepare(directory: Path) -> None:
    ledger = AuditedLedger(directory)
    ledger.post([event("known"), event("revised", run="r1"), event("clash")])
    ledger.close()
    # The children inherit the prices: reading the list anew would take longer than the batch.
    for one in BATCH:
        ledger.book.price(one)


def post_until(directory: Path, statement: int) -> None:
    """Run in the child: never comes back when the batch has that many statements."""
    ledger = AuditedLedger(directory)
    kill_at(ledger.store._writer, statement)
    ledger.post(BATCH)


def state(ledger: AuditedLedger) -> str:
    count = ledger.number("SELECT count(*) FROM event"), ledger.number("SELECT count(*) FROM entry")
    return {(3, 0): "absent", (5, 4): "whole"}.get(count, f"half: {count}")


def main(folder: Path) -> None:
    prepare(folder / "before")
    statement, killed = 0, True
    while killed:
        statement += 1
        directory = folder / str(statement)
        shutil.copytree(folder / "before", directory)
        killed = is_killed(partial(post_until, directory, statement))
        ledger = AuditedLedger(directory)
        outcome = {
            "statement": statement,
            "state": state(ledger),
            "violations": [violation._asdict() for violation in ledger.verify().violations],
        }
        if statement % REPEAT_EACH == 1:
            ledger.post(BATCH)
        if statement % REPEAT_EACH == 1 and (state(ledger) != "whole" or not ledger.verify().ok):
            outcome["violations"] = ["the batch cannot be repeated"]
        ledger.close()
        shutil.rmtree(directory)
        print(json.dumps(outcome), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
