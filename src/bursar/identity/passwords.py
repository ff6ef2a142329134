"""Passwords: argon2id, off the event loop, a few at a time.

One hash takes 19 MiB and some 70 ms on purpose. They run in a small pool of threads of their own, so that a
flood of logins waits for itself and never for usage events; beyond `WAITING_MAX` waiting ones a login is
told to come again. An unknown user costs the same hash as a known one.

Not here: who the user is, how many attempts an address has (`ports.CodeStore.take`).
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from bursar.core.errors import InvalidInput, RateLimited

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Result = TypeVar("Result")

LENGTH_MIN = 8
LENGTH_MAX = 256
THREADS = 2
WAITING_MAX = 64
"""Hashes under way or waiting; on two cores the last one has waited about three seconds."""

MEMORY_KIB = 19_456
ROUNDS = 2
LANES = 1

_COMMON_TEXT = """
    12345678 123456789 1234567890 12345678910 password password1 password12 password123 password1234
    passw0rd p@ssw0rd p@ssword qwertyui qwertyuiop qwerty123 qwerty1234 1q2w3e4r 1q2w3e4r5t 1qaz2wsx
    iloveyou princess sunshine football baseball superman starwars trustno1 welcome1 welcome123 letmein1
    letmein123 admin123 admin1234 administrator changeme changeme123 changeit default1 abcd1234 abc12345
    abcdefgh aa123456 a1b2c3d4 asdfghjk asdfghjkl zxcvbnm1 zaq12wsx 11111111 00000000 88888888 87654321
    987654321 11223344 12341234 12344321 123123123 123321123 computer internet michelle jennifer corvette
    whatever dragon123 monkey123 shadow123 master123 hello123 test1234 testtest secret123 qazwsxedc
    pass1234 passpass google123 bursar123 bursarbursar
"""
_COMMON = frozenset(_COMMON_TEXT.split())


def check_policy(password: str, *, field: str = "password", email: str = "") -> str:
    """Return `password` if it may be one.

    Raises:
        InvalidInput: Shorter than 8 or longer than 256 characters, among the commonest, or the address.
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise InvalidInput(f"{field} must have {LENGTH_MIN} to {LENGTH_MAX} characters", field=field)
    if password.lower() in _COMMON or (email and password.lower() == email):
        raise InvalidInput(f"{field} is among the first that are tried; take another one", field=field)
    return password


class Passwords:
    """Hashes and verifies.

    Attributes:
        verifications: How many comparisons were made, of real users and of nobody.
    """

    def __init__(self, *, memory_kib: int = MEMORY_KIB, rounds: int = ROUNDS, threads: int = THREADS) -> None:
        self.verifications = 0
        self._memory_kib = memory_kib
        self._rounds = rounds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._waiting = 0
        self._hasher: PasswordHasher | None = None
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """Return what is stored of a password.

        Raises:
            RateLimited: Too many are being hashed.
        """
        return await self._run(lambda: self._argon().hash(password))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether `password` is the one of `stored`; empty text stands for a user whom nobody knows.

        Takes the same work whatever the answer and whoever is asked for.

        Raises:
            RateLimited: Too many are being verified.
        """
        return await self._run(lambda: self._matches(stored, password))

    def is_outdated(self, stored: str) -> bool:
        """Whether `stored` was made by other parameters than today's."""
        return self._argon().check_needs_rehash(stored)

    def close(self) -> None:
        """Wait for what is being hashed."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= WAITING_MAX:
            raise RateLimited("too many people are logging in; try again", retry_after_s=5)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _matches(self, stored: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - see `_argon`

        self.verifications += 1
        # A long text would cost more than a short one: what cannot be a password is compared as empty.
        shown = password if len(password) <= LENGTH_MAX else ""
        hasher = self._argon()
        if not self._nobody:
            self._nobody = hasher.hash(secrets.token_hex(16))
        try:
            hasher.verify(stored or self._nobody, shown)
        except (VerificationError, InvalidHashError):
            return False
        return bool(stored)

    def _argon(self) -> "PasswordHasher":
        if self._hasher is None:
            # Only here: most processes never see a password, and the import takes a tenth of a second.
            from argon2 import PasswordHasher  # noqa: PLC0415

            self._hasher = PasswordHasher(
                time_cost=self._rounds, memory_cost=self._memory_kib, parallelism=LANES
            )
        return self._hasher
