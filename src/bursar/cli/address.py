"""Where a running server is found: `server.json` and the lock in its data directory.

The lock is what counts: the kernel frees it with the process, so an address that a dead
server left behind is known for what it is.
"""

import os
from pathlib import Path

import msgspec

from bursar.core.errors import Unavailable
from bursar.storage.sqlite.connection import FileLock
from bursar.storage.sqlite.store import LOCK_NAME

ADDRESS_NAME = "server.json"
OPERATOR_TOKEN_NAME = "operator.token"  # noqa: S105 - a file's name, as `wiring` writes it


class ServerAddress(msgspec.Struct, frozen=True):
    """What a running server leaves in its data directory."""

    url: str
    pid: int
    started_at: str


def running_address(data_dir: Path) -> ServerAddress | None:
    """Return the address in `data_dir` if its process is there, None for what a dead one left."""
    address = read_address(data_dir)
    if address is None:
        return None
    try:
        os.kill(address.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, as somebody else
    return address


def read_address(data_dir: Path) -> ServerAddress | None:
    """Return the address that lies in `data_dir`, None when there is none that can be read."""
    try:
        return msgspec.json.decode((data_dir / ADDRESS_NAME).read_bytes(), type=ServerAddress)
    except (OSError, msgspec.MsgspecError):
        return None


def write_address(data_dir: Path, address: ServerAddress) -> None:
    """Leave `address` in `data_dir`, readable by its owner only, whole or not at all."""
    path = data_dir / ADDRESS_NAME
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(address))
    draft.replace(path)


def remove_address(data_dir: Path) -> None:
    """Take the address away; harmless when it is gone."""
    (data_dir / ADDRESS_NAME).unlink(missing_ok=True)


def is_locked(data_dir: Path) -> bool:
    """Whether a process holds the data directory at this moment."""
    if not (data_dir / LOCK_NAME).exists():
        return False
    lock = FileLock(data_dir / LOCK_NAME)
    try:
        lock.acquire()
    except Unavailable:
        return True
    lock.release()
    return False
