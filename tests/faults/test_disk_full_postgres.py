"""PostgreSQL's disk is full: writes are refused in the way that loses nothing, and come back by themselves.

A file system of its own, filled to the last byte under load. Where the log (`pg_wal`) lies on it as well,
PostgreSQL may end itself, as it cannot go on; then somebody has to start it again.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support import services
from support.engines import require_binaries
from support.lost import OwnDatabase, OwnServer
from support.server import running_server
from support.spenders import CENT, Clients, budgeted

SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
FILE_SYSTEM_BYTES = 256 << 20
REFUSED = 40
RESUME_S = 5.0
LIMIT = 10_000 * CENT
READS = ("/v1/costs", "/v1/events", "/v1/budgets", "/v1/status", "/healthz")

pytestmark = pytest.mark.long


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of its own, and unmount it."""
    folder.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={FILE_SYSTEM_BYTES},mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("we may not mount a file system here: not proved")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["the log on another disk", "the log on the same disk"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    require_binaries()
    # Not beneath pytest's own directories, which PostgreSQL's user may not enter.
    place = services.folder_for_tests().with_name(f"bursar-tests-disk-{os.getpid()}")
    elsewhere = place.with_name(f"bursar-tests-log-{os.getpid()}")
    with small_disk(place):
        folder = place / "own"
        server = OwnServer(folder, services.start(folder, owner=os.getpid()))
        try:
            if request.param == "the log on another disk":
                server.lose("fast")
                shutil.move(folder / "data/pg_wal", elsewhere)
                user = services.user_of_services()
                assert user is not None
                for path in (elsewhere, *elsewhere.rglob("*")):
                    shutil.chown(path, user.pw_uid, user.pw_gid)
                (folder / "data/pg_wal").symlink_to(elsewhere)
                server.give_back()
            yield server
        finally:
            with suppress(SystemExit):
                server.throw_away()
            shutil.rmtree(elsewhere, ignore_errors=True)
    place.rmdir()


def test_a_full_disk_loses_nothing_and_is_left_behind(own: OwnServer, tmp_path: Path) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to repeat it by
    database = OwnDatabase(tmp_path / "data", own.service)
    filler = own.folder.parent / "filler"
    with running_server(database.folder, **database.environment) as server:
        budgeted(server, LIMIT)
        with Clients(lambda: server.base_url, server.token, SEED, limit=LIMIT) as clients:
            clients.wait_for(30)
            fill(filler)
            wait_until_refused(clients)
            if not (own.folder / "data/pg_wal").is_symlink():
                use_up_the_log(own, database)
            is_alive = own.is_running
            if is_alive:
                assert {path: server.get(path).status_code for path in READS} == dict.fromkeys(READS, 200)
                clients.check(database)
            filler.unlink()
            if not own.is_running:
                own.give_back()
            begun = time.monotonic()
            clients.wait_for(1)
            resumed_s = time.monotonic() - begun
            clients.wait_for(30)
        clients.check(database)
        clients.finish(server)
    said = clients.agree(database)
    database.drop()
    print(  # noqa: T201 - the figures of the reliability page
        f"{'it lived' if is_alive else 'PostgreSQL ended itself'}, back after {resumed_s:.2f} s: {said}"
    )
    assert resumed_s < RESUME_S
    assert set(clients.statuses) <= {200, 201, 202, 402, 409, 429, 503, 507}
    for told in clients.told:
        if told.path == "/v1/ingest":
            assert told.status in {202, 429}, told
    assert is_alive or "PANIC" in own.log or "FATAL" in own.log


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass


def use_up_the_log(own: OwnServer, database: OwnDatabase) -> None:
    """Let PostgreSQL need more log than it has made in advance, and see what becomes of it."""
    deadline = time.monotonic() + 15
    while own.is_running and time.monotonic() < deadline:
        with suppress(Exception):
            database.rows("SELECT pg_switch_wal()")
        time.sleep(0.2)


def wait_until_refused(clients: Clients) -> None:
    deadline = time.monotonic() + 60
    while sum(clients.statuses[status] for status in (429, 503, 507)) < REFUSED:
        assert time.monotonic() < deadline, clients.statuses
        assert clients.failures == []
        time.sleep(0.05)
