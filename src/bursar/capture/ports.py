"""What importers need from storage: a place for their cursor."""

from typing import Protocol

from bursar.core.ids import Org


class CursorStore(Protocol):
    """Keeps one small value per organisation and source name; storage implements it."""

    async def get_cursor(self, org: Org, source: str) -> bytes | None:
        """Return what was put last, None when nothing was."""
        ...

    async def put_cursor(self, org: Org, source: str, cursor: bytes) -> None:
        """Keep `cursor` in place of what was there. May be lost without harm."""
        ...
