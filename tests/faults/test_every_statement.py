"""Cut after any statement of any operation on money: it is there whole or not at all, and can be asked again.

On PostgreSQL the connection dies with the answer of the n-th statement, n = 1, 2, … until the operation
needs no more. On SQLite the process is killed as it begins the n-th one; in the short form every few.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.cutting import CuttingProxy
from support.desk import Desk, open_desk
from support.engines import Database
from support.operations import OPERATIONS, Operation, differences, set_up, state

ENGINES = ("postgres",)
DRIVER = Path(__file__).with_name("statement_driver.py")
STRIDE = 1 if os.environ.get("BURSAR_TEST_LONG") == "1" else 16
SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
REST_S = 0.1
STATEMENTS_MIN = 2
ROUNDS_MAX = 120


@pytest.fixture(scope="module")
def proxied(module_database: Database) -> Iterator[tuple[Desk, CuttingProxy]]:
    address = str(module_database.settings["database_url"])
    parts = urlsplit(address)
    assert parts.port is not None
    with CuttingProxy(parts.port) as proxy:
        module_database.settings = {"database_url": address.replace(f":{parts.port}/", f":{proxy.port}/")}
        with open_desk(module_database) as desk:
            set_up(desk)
            yield desk, proxy


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_cut_after_any_statement_it_is_there_whole_or_not_at_all(
    proxied: tuple[Desk, CuttingProxy], name: str
) -> None:
    desk, proxy = proxied
    rounds, statement, most, unheard = 0, 0, 0, 0
    while rounds < ROUNDS_MAX:
        rounds += 1
        statement += 1
        was_cut, was_done = cut_at(statement, OPERATIONS[name], desk, proxy)
        most = max(most, statement * was_cut)
        # The commit whose answer is lost: done, and not known to be.
        unheard += was_cut and was_done
        if not was_cut and unheard:
            break
        if not was_cut:
            # A look at what other processes changed, which is due by time, moved the commit: once more.
            statement = 0
    assert most > STATEMENTS_MIN
    assert unheard > 0
    assert desk.violations() == ()
    print(f"{name}: cut after each of {most} statements")  # noqa: T201


def cut_at(statement: int, operation: Operation, desk: Desk, proxy: CuttingProxy) -> tuple[bool, bool]:
    """Cut an operation once; return whether it came so far, and whether it is done but was not heard of."""
    # With every connection made that it needs, so that it has the same statements each time.
    assert operation(desk)().status_code < 300
    ask = operation(desk)
    before = state(desk.database)
    proxy.arm(statement)
    told = ask()
    was_cut = proxy.is_done
    proxy.arm(0)
    # What the connections' owner asks of the server after a cut is no part of the next round.
    desk.run(asyncio.sleep(REST_S))
    after = state(desk.database)
    again = ask()
    assert again.status_code in {200, 201, 202}, (statement, again.text)
    whole = state(desk.database)
    assert before != whole, "the operation changes nothing"
    assert after in (before, whole), (statement, differences(before, after, whole))
    if told.status_code >= 300:
        assert told.status_code in {429, 503}, (statement, told.status_code, told.text)
        return was_cut, after == whole
    # What was acknowledged was there, and the second answer names the same.
    assert after == whole
    assert told.status_code != 201 or told.json().get("id") == again.json().get("id")
    return was_cut, False


@pytest.mark.long
def test_killed_at_any_statement_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to repeat it by
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path / "data"), str(STRIDE), str(SEED)],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert {outcome["operation"] for outcome in outcomes} == {*OPERATIONS}
    for outcome in outcomes:
        assert outcome["state"] in {"absent", "whole"}, outcome
        assert outcome["again"] < 300, outcome
        assert outcome["violations"] == [], outcome
        assert outcome["killed"] or outcome["state"] == "whole", outcome
    kills = sum(outcome["killed"] for outcome in outcomes)
    print(f"{kills} kills at statements of {len(OPERATIONS)} operations")  # noqa: T201
    assert kills >= len(OPERATIONS)
