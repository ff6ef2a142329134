"""The first owner: a link that the server prints while nobody owns its first organisation.

    offer  →  code in the link  →  look  →  claim  →  the owner, logged in

The code is `first_` and 43 characters of URL-safe base64; only its SHA-256 is stored. It works once, for
a day, and only while the organisation has no owner. A new one ends the last.

Not here: who prints it (`cli`), the page (`http`).
"""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from bursar.core.errors import NotFound
from bursar.core.ids import Org, new_id
from bursar.core.time import MICROS_PER_DAY
from bursar.identity.accounts import Accounts, EmailUnverified, NoOrganisation, SignedIn
from bursar.identity.passwords import check_policy
from bursar.identity.users import User, normal_email

LIFE_MICROS = MICROS_PER_DAY
_GONE = "this link is not valid any more; start the server again for a new one"


class Offer(NamedTuple):
    """An organisation that waits for its owner."""

    org_name: str
    expires_at: int


class FirstRunStore(Protocol):
    """Where offers lie."""

    async def offer(self, org: Org, code_hash: bytes, *, at: int, expires_at: int) -> bool:
        """Store an offer in place of an earlier one; false, and nothing stored, when it has an owner."""
        ...

    async def look(self, code_hash: bytes, *, at: int) -> Offer | None:
        """Return the offer of that code while it stands."""
        ...

    async def claim(self, code_hash: bytes, user: User, *, at: int) -> None:
        """Make `user`, stored as well when it is new, the verified owner; the offer is over.

        Raises:
            NotFound: The offer does not stand any more: of two claims at once one succeeds.
        """
        ...


class FirstRun:
    """Offers and claims.

    Args:
        store: Where they lie.
        accounts: Makes hashes and sessions.
        clock: Microseconds UTC.
    """

    def __init__(self, store: FirstRunStore, accounts: Accounts, clock: Callable[[], int]) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock

    async def offer(self, org: Org) -> str | None:
        """Return a fresh code, or None when the organisation has an owner."""
        code = f"first_{secrets.token_urlsafe(32)}"
        now = self._clock()
        is_open = await self._store.offer(org, hash_of(code), at=now, expires_at=now + LIFE_MICROS)
        return code if is_open else None

    async def look(self, code: str) -> Offer:
        """Return what the code's holder may become owner of.

        Raises:
            NotFound: It does not stand.
        """
        found = await self._store.look(hash_of(code), at=self._clock())
        if found is None:
            raise NotFound(_GONE, field="token")
        return found

    async def claim(
        self, code: str, email: str, password: str, *, first_name: str = "", last_name: str = ""
    ) -> SignedIn:
        """Make the holder the owner and begin a session. A known address needs its own password.

        Raises:
            NotFound: The code does not stand.
            InvalidInput: No address, or a password that the policy refuses.
            Unauthenticated: The address has an account, and this is not its password.
            RateLimited: Too many passwords were tried.
        """
        await self.look(code)
        normal = normal_email(email)
        now = self._clock()
        accounts = self._accounts
        user = await accounts.users.find_by_email(normal)
        if user is None:
            check_policy(password, email=normal)
            user = User(
                id=new_id(),
                email=normal,
                password_hash=await accounts.passwords.hash(password),
                first_name=first_name,
                last_name=last_name,
                created_at=now,
                verified_at=now,
            )
        else:
            # Counted as a log-in; the link makes up for what else is missing.
            with suppress(EmailUnverified, NoOrganisation):
                await accounts.log_in(normal, password)
        await self._store.claim(hash_of(code), user, at=now)
        return await accounts.sign_in_proved(user)


def hash_of(code: str) -> bytes:
    """Return what is stored in place of the code, 32 bytes; no invitation has the same."""
    return hashlib.sha256(b"first run\0" + code.encode("utf-8", "replace")).digest()
