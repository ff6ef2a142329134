"""One attempt to sign in at an issuer, kept in the browser that began it.

    begin → Attempt → seal → cookie … callback → unseal → Attempt

The cookie holds what must be the same at the end as at the start, signed with a key of this installation. A
callback without it, or with another `state`, comes from somebody else's attempt and is refused; so nobody can
be logged in to a stranger's account.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from bursar.core.errors import Unauthenticated
from bursar.core.time import MICROS_PER_MINUTE

LIFE_MICROS = 10 * MICROS_PER_MINUTE
LENGTH_MAX = 2_048
_TAG_HEX = 64


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is recognised by.

    Attributes:
        state: Comes back in the callback's address.
        nonce: Comes back in the issuer's token.
        verifier: PKCE: shown to the issuer together with the code.
        return_to: A path of ours to go to afterwards; empty to answer as JSON.
        expires_at: Microseconds UTC.
    """

    state: str
    nonce: str
    verifier: str
    return_to: str
    expires_at: int


def begin(return_to: str, now: int) -> Attempt:
    """Return a fresh attempt."""
    return Attempt(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        return_to=return_to,
        expires_at=now + LIFE_MICROS,
    )


def seal(attempt: Attempt, key: bytes) -> str:
    """Return the cookie's text."""
    body = urlsafe_b64encode(msgspec.json.encode(attempt))
    return f"{hmac.new(key, body, hashlib.sha256).hexdigest()}{body.decode()}"


def unseal(text: str, state: str, key: bytes, now: int) -> Attempt:
    """Return the attempt of a cookie, if the callback's `state` is its own.

    Raises:
        Unauthenticated: No cookie of ours, too old, or another attempt's state.
    """
    tag, body = text[:_TAG_HEX], text[_TAG_HEX:].encode("utf-8", "replace")
    expected = hmac.new(key, body, hashlib.sha256).hexdigest()
    if len(text) > LENGTH_MAX or not hmac.compare_digest(tag.encode("utf-8", "replace"), expected.encode()):
        raise _refusal()
    attempt = msgspec.json.decode(urlsafe_b64decode(body), type=Attempt)
    if attempt.expires_at <= now or not hmac.compare_digest(
        attempt.state.encode(), state.encode("utf-8", "replace")
    ):
        raise _refusal()
    return attempt


def _refusal() -> Unauthenticated:
    return Unauthenticated("Unauthorized: this sign-in was not begun in this browser, or is over")
