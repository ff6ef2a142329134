"""Signed tokens (JWT, HS256): an access token for each request, a reset token for one change of password.

The header names the signing key (`kid`); only keys of this installation are looked at and only HS256 is
taken, whatever the header says. A token says who (`sub`), where (`org`), by which session (`sid`) and what
it is for (`typ`, `aud`); whether the session still stands is asked elsewhere (`ports.SessionStore`).

    issue  →  text  →  verify  →  Claims        raises Unauthenticated, always the same sentence

Not here: sessions, users, where the keys lie.
"""

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from bursar.core.errors import InvalidInput, Unauthenticated
from bursar.core.ids import id_from_text, text_from_id
from bursar.core.time import MICROS_PER_SECOND
from bursar.identity.sessions import ACCESS_MICROS, GRACE_MICROS

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

ISSUER = "bursar"
LENGTH_MAX = 2_048
"""Characters of a token that are looked at; ours have about 500."""

RESET_S = 300
ALGORITHM = "HS256"
KEYS_AGE_S = 0.4
"""How old what is known of the keys may be: by then one that ended elsewhere is refused here."""
_SECRET_BYTES = 32
_PARTS = 3


class TokenType(StrEnum):
    """What a token is for; each has an audience of its own as well."""

    ACCESS = "access"
    RESET = "reset"


_AUDIENCE = {TokenType.ACCESS: "bursar", TokenType.RESET: "bursar:reset"}


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """One secret. After `retired_at` tokens of it are refused; until then it verifies."""

    kid: str
    secret: bytes
    created_at: int
    retired_at: int | None = None


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says.

    Attributes:
        org: The organisation's id; empty in a reset token.
        session: The session's id; empty in a reset token.
        epoch: The user's password epoch when it was signed: a reset token is good for one change.
        expires_at: Microseconds UTC; in the past only when a grace was asked for.
    """

    user: bytes
    org: bytes = b""
    session: bytes = b""
    epoch: int = 0
    issued_at: int = 0
    expires_at: int = 0


class SigningKeys(Protocol):
    """Where the keys lie."""

    async def all(self) -> list[SigningKey]:
        """Return the keys, oldest first, retired ones too."""
        ...

    async def add(self, key: SigningKey, *, retire_others_at: int | None) -> None:
        """Store a key; with a time, every other one only verifies until then."""
        ...


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str


class _Payload(msgspec.Struct, frozen=True):
    iss: str
    aud: str
    typ: str
    sub: str
    iat: int
    nbf: int
    exp: int
    org: str = ""
    sid: str = ""
    pwe: int = 0


_payload = msgspec.json.Decoder(_Payload).decode
_header = msgspec.json.Decoder(_Header).decode


class Tokens:
    """Signs and verifies with the installation's keys.

    Args:
        store: Where the keys lie; the first one is made at the first signature.
        clock: Microseconds UTC.
    """

    def __init__(self, store: SigningKeys, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._imported: dict[str, OctKey] = {}
        self._read_at = float("-inf")

    async def issue(
        self, kind: TokenType, user: bytes, *, org: bytes = b"", session: bytes = b"", epoch: int = 0
    ) -> str:
        """Return a signed token that begins now: 24 hours for access, 5 minutes for a reset."""
        # Only here and in `_signed`: the import costs more than a cold start may.
        from joserfc import jwt  # noqa: PLC0415

        now_s = self._clock() // MICROS_PER_SECOND
        life_s = ACCESS_MICROS // MICROS_PER_SECOND if kind is TokenType.ACCESS else RESET_S
        key = await self._newest()
        claims = {
            "iss": ISSUER,
            "aud": _AUDIENCE[kind],
            "typ": kind.value,
            "sub": text_from_id("usr", user),
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + life_s,
            "jti": secrets.token_hex(8),
            "pwe": epoch,
        }
        if org:
            claims |= {"org": text_from_id("org", org), "sid": text_from_id("ses", session)}
        header = {"alg": ALGORITHM, "kid": key.kid}
        return jwt.encode(header, claims, self._oct(key), algorithms=[ALGORITHM])

    async def verify(self, text: str, kind: TokenType, *, grace_micros: int = 0) -> Claims:
        """Return what a token of that kind says.

        Args:
            text: As it came.
            kind: What it must be for.
            grace_micros: How long after its end it is still taken: `GRACE_MICROS` for a refresh, else 0.

        Raises:
            Unauthenticated: It is anything but a token that we signed for this, valid now. The sentence
                never says which part failed.
        """
        try:
            payload = _payload(await self._signed(text))
            now = self._clock()
            if (
                payload.iss != ISSUER
                or payload.aud != _AUDIENCE[kind]
                or payload.typ != kind
                or payload.nbf * MICROS_PER_SECOND > now
                or payload.exp * MICROS_PER_SECOND + grace_micros <= now
            ):
                raise _refusal()
            return Claims(
                user=id_from_text(payload.sub),
                org=id_from_text(payload.org) if payload.org else b"",
                session=id_from_text(payload.sid) if payload.sid else b"",
                epoch=payload.pwe,
                issued_at=payload.iat * MICROS_PER_SECOND,
                expires_at=payload.exp * MICROS_PER_SECOND,
            )
        except (msgspec.MsgspecError, InvalidInput, UnicodeError):
            raise _refusal() from None

    async def rotate(self) -> str:
        """Sign with a fresh key from now on, and return its id.

        The old ones verify until no token of theirs could be refreshed any more.
        """
        now = self._clock()
        key = SigningKey(kid=secrets.token_hex(8), secret=secrets.token_bytes(_SECRET_BYTES), created_at=now)
        await self._store.add(key, retire_others_at=now + ACCESS_MICROS + GRACE_MICROS)
        await self._read()
        return key.kid

    async def revoke_all(self) -> str:
        """Sign with a fresh key and refuse every token signed before: after a leak."""
        now = self._clock()
        key = SigningKey(kid=secrets.token_hex(8), secret=secrets.token_bytes(_SECRET_BYTES), created_at=now)
        await self._store.add(key, retire_others_at=now)
        await self._read()
        return key.kid

    async def _signed(self, text: str) -> bytes:
        """Return the payload of a token whose signature is right."""
        parts = text.split(".", _PARTS) if len(text) <= LENGTH_MAX else []
        if len(parts) != _PARTS or not all(parts):
            raise _refusal()
        header = _header(_unpacked(parts[0]))
        key = await self._key(header.kid)
        if header.alg != ALGORITHM or key is None:
            raise _refusal()
        from joserfc import jws  # noqa: PLC0415 - see `issue`
        from joserfc.errors import JoseError  # noqa: PLC0415 - see `issue`

        try:
            return jws.deserialize_compact(text, self._oct(key), algorithms=[ALGORITHM]).payload
        except (JoseError, ValueError):
            raise _refusal() from None

    async def _key(self, kid: str) -> SigningKey | None:
        # Another process may have made or ended a key.
        if time.monotonic() - self._read_at > KEYS_AGE_S:
            await self._read()
        key = self._keys.get(kid)
        return None if key is None or _is_over(key, self._clock()) else key

    async def _newest(self) -> SigningKey:
        await self._read()
        now = self._clock()
        usable = [key for key in self._keys.values() if key.retired_at is None and not _is_over(key, now)]
        if not usable:
            kid = await self.rotate()
            return self._keys[kid]
        return usable[-1]

    async def _read(self) -> None:
        # They are as old as the question, however long the answer took.
        asked_at = time.monotonic()
        self._keys = {key.kid: key for key in await self._store.all()}
        self._read_at = asked_at

    def _oct(self, key: SigningKey) -> "OctKey":
        from joserfc.jwk import OctKey  # noqa: PLC0415 - see `issue`

        found = self._imported.get(key.kid)
        if found is None:
            found = self._imported[key.kid] = OctKey.import_key(key.secret)
        return found


def looks_like_one(text: str) -> bool:
    """Whether `text` has the outer form of a signed token: three parts, the first a JSON object."""
    return text.startswith("eyJ") and text.count(".") == _PARTS - 1


def _is_over(key: SigningKey, now: int) -> bool:
    return key.retired_at is not None and key.retired_at <= now


def _unpacked(part: str) -> bytes:

    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _refusal() from None


def _refusal() -> Unauthenticated:
    return Unauthenticated("Unauthorized: this token is not valid; log in again")
