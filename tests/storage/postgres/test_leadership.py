"""Each job has one leader: the first that asks, until it ends, dies or hangs."""

import asyncio
import os
import signal
import subprocess
import sys

from bursar.storage.postgres import leadership
from bursar.storage.postgres.leadership import Leadership
from support.engines import PostgresDatabase

LEADER = """
import asyncio, sys
from bursar.storage.postgres.leadership import Leadership

async def lead():
    one = Leadership(sys.argv[1])
    while True:
        print(await one.takes("holds"), flush=True)
        await asyncio.sleep(0.2)

asyncio.run(lead())
"""


async def comes_to_lead(one: Leadership, within_s: float) -> None:
    for _ in range(round(within_s * 20)):
        if await one.takes("holds"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"nobody gave it up within {within_s} s")


async def test_the_first_that_asks_leads_until_it_ends(postgres: PostgresDatabase) -> None:
    first, second = Leadership(postgres.address), Leadership(postgres.address)
    assert await first.takes("holds")
    assert not await second.takes("holds")
    assert await second.takes("audit")
    assert not await first.takes("audit")
    assert await first.takes("holds")
    first.end()
    await comes_to_lead(second, 5)
    second.end()


async def test_a_leader_whose_connection_was_cut_asks_again(postgres: PostgresDatabase) -> None:
    first, second = Leadership(postgres.address), Leadership(postgres.address)
    assert await first.takes("holds")
    postgres.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'bursar jobs' AND datname = current_database()"
    )
    await comes_to_lead(second, 5)
    assert not await first.takes("holds")
    first.end()
    second.end()


async def test_leading_keeps_no_snapshot_that_vacuum_would_wait_for(postgres: PostgresDatabase) -> None:
    first = Leadership(postgres.address)
    assert await first.takes("holds")
    assert postgres.rows(
        "SELECT state, backend_xmin FROM pg_stat_activity "
        "WHERE application_name = 'bursar jobs' AND datname = current_database()"
    ) == [("idle in transaction", None)]
    first.end()


def led_by_another(address: str) -> "subprocess.Popen[str]":
    leader = subprocess.Popen([sys.executable, "-c", LEADER, address], stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    assert leader.stdout.readline() == "True\n"
    return leader


async def test_another_leads_at_once_when_the_leader_dies(postgres: PostgresDatabase) -> None:
    leader = led_by_another(postgres.address)
    second = Leadership(postgres.address)
    assert not await second.takes("holds")
    leader.kill()
    leader.communicate()
    await comes_to_lead(second, 5)
    second.end()


async def test_another_leads_soon_when_the_leader_hangs(postgres: PostgresDatabase) -> None:
    leader = led_by_another(postgres.address)
    second = Leadership(postgres.address)
    os.kill(leader.pid, signal.SIGSTOP)
    try:
        await comes_to_lead(second, leadership.SILENCE_MS / 1_000 + 5)
        os.kill(leader.pid, signal.SIGCONT)
        assert leader.stdout is not None
        assert "False\n" in [leader.stdout.readline() for _ in range(20)]
    finally:
        leader.kill()
        leader.communicate()
        second.end()
