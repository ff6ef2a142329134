"""The operator's token: from the settings, else a file in the data directory, made on first use.

It is a secret outside the database, and the keys of one-time codes and of sign-in cookies
come from it: servers of one database need the same one.
"""

import os
import secrets
from pathlib import Path

from bursar.settings import Settings

OPERATOR_TOKEN_NAME = "operator.token"  # noqa: S105 - a file's name


def operator_token(settings: Settings) -> str:
    """Return the token. Processes that begin together on an empty directory agree on one."""
    if settings.operator_token:
        return settings.operator_token
    path = settings.data_dir / OPERATOR_TOKEN_NAME
    if not path.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(path)
    return path.read_text().strip()


def _make(path: Path) -> None:
    """Write a token, readable by its owner only: whole, or the one that another process wrote first."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"op_{secrets.token_hex(32)}")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
