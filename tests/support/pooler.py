"""A real PgBouncer in transaction mode before a database: each transaction may meet another back-end.

with pooled(database, folder) as address:
    …
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from support import services
from support.engines import PostgresDatabase
from support.services import free_port, user_of_services

CONFIG = """[databases]
{name} = host={host} port={port} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""
START_S = 10.0


@contextmanager
def pooled(database: PostgresDatabase, *, size: int = 6) -> Iterator[str]:
    """Give the address of a pooler that has `size` connections to `database`."""
    program = services.pooler()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PgBouncer is missing: apt-get install pgbouncer")
        pytest.skip("no PgBouncer here: not proved behind it (`make services` installs it)")
    parts, own_port, user = urlsplit(database.address), free_port(), user_of_services()
    with tempfile.TemporaryDirectory(prefix="bursar-pooler-") as folder:
        config = Path(folder, "pgbouncer.ini")
        config.write_text(
            CONFIG.format(
                name=database.name, host=parts.hostname, port=parts.port, user=parts.username,
                password=parts.password, own_port=own_port, size=size, folder=folder,
            )
        )  # fmt: skip
        if user is not None:
            for path in (folder, config):
                shutil.chown(path, user.pw_uid, user.pw_gid)
        process = subprocess.Popen(
            [program, "-q", str(config)],
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )
        try:
            address = f"postgresql://{parts.username}:any@127.0.0.1:{own_port}/{database.name}"
            _wait(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(START_S)


def _wait(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until it answers; in a thread, since the caller may have a loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(_answers(address, process))).result()


async def _answers(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(round(START_S / 0.05)):
        with suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(address)).close()
            return
        assert process.poll() is None
        await asyncio.sleep(0.05)
    raise AssertionError("PgBouncer does not answer")
