"""A PostgreSQL server of our own: private, on a port of its own, as durable as it comes.

    python tests/support/services.py start FOLDER   prints its address and a line to try
    python tests/support/services.py stop FOLDER
    python tests/support/services.py sweep          ends what test runs that were cut off left behind

`make services` runs the first for a person, who keeps the data in FOLDER; the tests start one in
memory and throw it away. PostgreSQL refuses to run as root: there it runs as `postgres`, or as `nobody`.
"""

import asyncio
import fcntl
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import asyncpg

PACKAGES = ("postgresql", "pgbouncer")
CONNECTIONS_MAX = 300
ROOM_BYTES_MIN = 2 << 30
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory in it is made for us alone


class Service(NamedTuple):
    """A running server.

    Attributes:
        address: As its user `bursar`, who may make databases and is bound by row-level security.
        admin: As the superuser, for tests that look from outside.
        owner: The process that it was started for; 0 for a person's.
    """

    address: str
    admin: str
    owner: int

    def of(self, database: str, *, as_admin: bool = False) -> str:
        """Return the address of another database."""
        return f"{(self.admin if as_admin else self.address).rpartition('/')[0]}/{database}"


def binaries() -> Path | None:
    """Return the directory of the newest PostgreSQL's programs, None where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    plain = shutil.which("postgres")
    return found[0].parent if found else Path(plain).resolve().parent if plain else None


def pooler() -> str | None:
    """Return the program of PgBouncer, None where there is none."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def install() -> None:
    """Install Debian's packages where something is missing, if we may."""
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if binaries() is not None and (pooler() is not None or not may_install):
        return
    if not may_install:
        raise SystemExit(f"PostgreSQL is missing: on Debian, apt-get install {' '.join(PACKAGES)}")
    print(f"Installing: {' '.join(PACKAGES)}", file=sys.stderr)  # noqa: T201 - this is a program too
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def start(folder: Path, *, owner: int = 0) -> Service:
    """Return the server whose data lie in `folder`, started if it does not run; safe for many at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    with _locked(folder):
        known = folder / "service.json"
        if known.exists():
            service = Service(**json.loads(known.read_text()))
            if not is_running(folder):
                _run(folder, "pg_ctl", "start", "-w", "-s", "-l", str(folder / "data/log"))
            return service
        service = _made(folder, owner)
        known.touch(mode=0o600)
        known.write_text(json.dumps(service._asdict()))
        return service


def stop(folder: Path, *, mode: str = "fast") -> None:
    """End the server in `folder`; harmless when there is none."""
    if folder.exists():
        with _locked(folder):
            if is_running(folder):
                _run(folder, "pg_ctl", "stop", "-s", "-m", mode)


def throw_away(folder: Path) -> None:
    """End the server in `folder` and delete its data."""
    stop(folder, mode="immediate")
    shutil.rmtree(folder, ignore_errors=True)


def folder_for_tests() -> Path:
    """Return the name of a folder for this process's server: in memory where there is room.

    Servers whose process is gone, killed perhaps, are thrown away.
    """
    places = [MEMORY] if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES_MIN else []
    place = [*places, Path(tempfile.gettempdir())][0]
    for left in place.glob("bursar-tests-*"):
        with suppress(PermissionError, ValueError):
            if not Path("/proc", str(int(left.name.rpartition("-")[2]))).exists():
                throw_away(left)
    return place / f"bursar-tests-{os.getpid()}"


def _made(folder: Path, owner: int) -> Service:
    data, password = folder / "data", secrets.token_hex(16)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    secret = data.with_name("password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    user = user_of_services()
    if user is not None:
        for path in (data, secret):
            shutil.chown(path, user.pw_uid, user.pw_gid)
    # Not the plain order of bytes: what depends on it must say so, wherever it runs.
    order = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
    plain = ("-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--no-sync")
    _run(folder, "initdb", *plain, *order)
    secret.unlink()
    port = free_port()
    with (data / "postgresql.conf").open("a") as config:
        config.write(
            f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n"
            f"max_connections = {CONNECTIONS_MAX}\n"
        )
    _run(folder, "pg_ctl", "start", "-w", "-s", "-l", str(data / "log"))
    admin = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    asyncio.run(_make_user(admin, password))
    return Service(f"postgresql://bursar:{password}@127.0.0.1:{port}/bursar", admin, owner)


async def _make_user(admin: str, password: str) -> None:
    connection = await asyncpg.connect(admin)
    await connection.execute(f"CREATE ROLE bursar LOGIN CREATEDB PASSWORD '{password}'")
    await connection.execute("CREATE DATABASE bursar OWNER bursar")
    await connection.close()


def is_running(folder: Path) -> bool:
    """Whether the server in `folder` runs."""
    if not (folder / "data/postmaster.pid").exists():
        return False
    return _tried(folder, "pg_ctl", "status").returncode == 0


def _run(folder: Path, program: str, *arguments: str) -> None:
    done = _tried(folder, program, *arguments)
    if done.returncode:
        log = folder / "data/log"
        said = log.read_text()[-2_000:] if log.exists() else ""
        raise SystemExit(f"{program} {' '.join(arguments)} failed: {done.stdout}{said}")


def _tried(folder: Path, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of PostgreSQL as the user that it may run as."""
    directory, user = binaries(), user_of_services()
    assert directory is not None
    with tempfile.TemporaryFile("w+") as said:
        # A file, not a pipe: the server that is started keeps its end open.
        done = subprocess.run(
            [directory / program, "-D", str(folder / "data"), *arguments],
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            check=False,
        )
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, said.read())


def user_of_services() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(command: str, folder: Path) -> None:
    if command == "sweep":
        folder_for_tests()  # looks for them on its way
        return
    if command == "stop":
        stop(folder)
        return
    install()
    service = start(folder)
    print(f"PostgreSQL: {service.address}\nTo try it:  BURSAR_DATABASE_URL={service.address} make run")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else ".services").absolute())
