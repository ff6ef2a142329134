"""What identity needs from a storage engine."""

from typing import Protocol

from bursar.core.ids import Org
from bursar.identity.keys import ApiKey


class KeyFinder(Protocol):
    """Looks a key up before its organisation is known."""

    async def find(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with that hash, revoked or expired ones too; None for none."""
        ...


class KeyStore(KeyFinder, Protocol):
    """The keys of an organisation."""

    async def create(self, key: ApiKey, key_hash: bytes, *, actor: str) -> ApiKey:
        """Store a new key and return it with its row number."""
        ...

    async def list(self, org: Org) -> list[ApiKey]:
        """Return all keys, oldest first, revoked ones too."""
        ...

    async def revoke(self, org: Org, key_id: bytes, *, at: int, actor: str) -> ApiKey:
        """Make the key inactive; nothing else of it changes.

        Raises:
            NotFound: No such key in this organisation.
        """
        ...

    async def rotate(
        self, org: Org, key_id: bytes, successor: ApiKey, key_hash: bytes, *, actor: str
    ) -> ApiKey:
        """Revoke one key and store its successor in the same transaction.

        Raises:
            NotFound: No such active key in this organisation: of two rotations at the same
                time exactly one succeeds.
        """
        ...

    async def record_use(
        self, used: dict[tuple[Org, int], int], failed: dict[tuple[Org, int], tuple[int, int]]
    ) -> None:
        """Write when keys were last used (micros), and failed uses (count, last micros)."""
        ...
