"""A process that has imported everything and forks one `bursar` for each line it reads.

Run by `support.program`. A child is a process of its own, with its own environment, directory,
locks and sockets; only the imports are already done, which is most of a short command's time.
"""

import json
import os
import signal
import sys
import traceback
from typing import TypedDict

from bursar import wiring
from bursar.cli import checkup, connection, importing, main, tables
from bursar.pricing.engine import warm_up

PRELOADED = (wiring, checkup, connection, importing, tables)


class Order(TypedDict):
    """One command to run, and the files for what it prints."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    out: str
    talk: str
    seconds: int


def run(order: Order) -> int:
    """Fork, run the command there, and return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        signal.alarm(order["seconds"])
        os.chdir(order["directory"])
        os.environ.clear()
        os.environ.update(order["environment"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, order["out"]), (2, order["talk"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.argv = ["bursar", *order["arguments"]]
        main.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the child ends here in any case
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer each order on standard input with an exit code, until the input ends."""
    warm_up()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        print(run(json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
