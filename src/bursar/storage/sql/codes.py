"""One-time codes and throttles: `identity.ports.CodeStore`.

A guess is counted and compared in one transaction, and the count is committed before the answer.
"""

import hashlib
import hmac

from bursar.core.time import MICROS_PER_SECOND
from bursar.identity.codes import LIFE_MICROS, TRIES_MAX, Outcome, Purpose
from bursar.storage.sql.ports import EVERY_ORG, Readers, Store, Transaction

_ISSUE = """INSERT INTO one_time_code (user, purpose, hash, tries, created_at, expires_at)
    VALUES (?, ?, ?, 0, ?, ?)
    ON CONFLICT (user, purpose) DO UPDATE SET hash = excluded.hash, tries = 0,
        created_at = excluded.created_at, expires_at = excluded.expires_at"""
_GET = "SELECT hash, tries, expires_at FROM one_time_code WHERE user = ? AND purpose = ?"
_COUNT = "UPDATE one_time_code SET tries = tries + 1 WHERE user = ? AND purpose = ?"
_DROP = "DELETE FROM one_time_code WHERE user = ? AND purpose = ?"
_WINDOW = "SELECT starts_at, count FROM throttle WHERE kind = ? AND subject = ?"
_TAKE = """INSERT INTO throttle (kind, subject, starts_at, count) VALUES (?, ?, ?, ?)
    ON CONFLICT (kind, subject) DO UPDATE SET starts_at = excluded.starts_at, count = excluded.count"""
_FORGET = "DELETE FROM throttle WHERE kind = ? AND subject = ?"
_SWEEP = "DELETE FROM throttle WHERE starts_at < ?"
_SWEEP_EVERY = 1_000
_OLDEST_MICROS = 2 * 86_400 * MICROS_PER_SECOND
"""No window is longer than a day: rows that began two days ago count nothing any more."""


class SqlCodes:
    """`identity.ports.CodeStore` over one database."""

    def __init__(self, store: Store, readers: Readers) -> None:
        self._store = store
        self._readers = readers
        self._taken = 0

    async def issue(self, user_id: bytes, purpose: Purpose, code_hash: bytes, *, at: int) -> None:
        """Store a code in place of any earlier one of that purpose."""

        async def work(transaction: Transaction) -> None:
            row = (user_id, purpose.value, code_hash, at, at + LIFE_MICROS)
            transaction.everywhere.execute(_ISSUE, row)

        await self._store.transact(work)

    async def attempt(self, user_id: bytes, purpose: Purpose, code_hash: bytes, *, at: int) -> Outcome:
        """Count one guess and compare it."""

        async def work(transaction: Transaction) -> Outcome:
            connection = transaction.everywhere
            row = connection.execute(_GET, (user_id, purpose.value)).fetchone()
            if row is None:
                return Outcome.ABSENT
            stored, tries, expires_at = row
            if expires_at <= at:
                return Outcome.EXPIRED
            if tries >= TRIES_MAX:
                return Outcome.EXHAUSTED
            if hmac.compare_digest(stored, code_hash):
                connection.execute(_DROP, (user_id, purpose.value))
                return Outcome.MATCHED
            connection.execute(_COUNT, (user_id, purpose.value))
            return Outcome.WRONG

        return await self._store.transact(work)

    async def take(self, kind: str, subject: str, *, most: int, window_s: int, at: int) -> int | None:
        """Count one use, or say in how many seconds one is free again."""
        hashed = _hash(subject)
        window = window_s * MICROS_PER_SECOND
        known = await self._readers.run_short(
            EVERY_ORG, lambda one: one.execute(_WINDOW, (kind, hashed)).fetchone()
        )
        # Whoever is refused costs a read, never a write.
        if (
            known is not None
            and known["count"] >= most
            and known["starts_at"] <= at < known["starts_at"] + window
        ):
            return _seconds_until(known["starts_at"] + window, at)

        async def work(transaction: Transaction) -> int | None:
            connection = transaction.everywhere
            row = connection.execute(_WINDOW, (kind, hashed)).fetchone()
            starts_at, count = (at, 0) if row is None else row
            if not starts_at <= at < starts_at + window:
                starts_at, count = at, 0
            if count >= most:
                return _seconds_until(starts_at + window, at)
            connection.execute(_TAKE, (kind, hashed, starts_at, count + 1))
            self._taken += 1
            if self._taken % _SWEEP_EVERY == 0:
                connection.execute(_SWEEP, (at - _OLDEST_MICROS,))
            return None

        return await self._store.transact(work)

    async def forget(self, kind: str, subject: str) -> None:
        """Begin the subject's count again."""

        async def work(transaction: Transaction) -> None:
            transaction.everywhere.execute(_FORGET, (kind, _hash(subject)))

        await self._store.transact(work)


def _hash(subject: str) -> bytes:
    return hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _seconds_until(moment: int, at: int) -> int:
    return max(1, -(-(moment - at) // MICROS_PER_SECOND))
