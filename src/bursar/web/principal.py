"""Who is speaking: one `Principal`, resolved once a request, from whatever credential came.

A key may come as `Authorization: Bearer …` or as `x-api-key`. The operator's token (in the
data directory, mode 0600) acts for the organisation that `X-Bursar-Org` names, the first
one by default; the command line uses it.
"""

import hmac
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bursar.core.errors import Denied, NotFound, Unauthenticated
from bursar.core.ids import Org, text_from_id
from bursar.directory.organisations import Organisation, OrganisationStore
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.identity.ports import KeyStore

CACHE_SECONDS = 1.0
CACHED_MAX = 10_000
_ALL = frozenset(Scope)


class Principal(NamedTuple):
    """Who, in which organisation, with which scopes, bound to what."""

    org: Org
    actor: str
    scopes: frozenset[Scope]
    api_key: int = 0
    project: str = ""
    agent: str = ""
    is_operator: bool = False

    def require(self, scope: Scope) -> None:
        """Raise `Denied` unless this principal has `scope` (or admin)."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise Denied(f"this key lacks the scope {scope}; create one that has it")


class Authenticator:
    """Resolves credentials. Positive answers are cached for at most a second.

    A revocation in this process empties the cache at once; the second is the bound for
    one made elsewhere. Uses are gathered here and written in batches (`flush`).
    """

    def __init__(
        self,
        key_store: KeyStore,
        organisations: OrganisationStore,
        operator_token: str,
        clock: Callable[[], int],
    ) -> None:
        self._keys = key_store
        self._organisations = organisations
        self._operator_token = operator_token.encode()
        self._clock = clock
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        self._used: dict[tuple[Org, int], int] = {}
        self._failed: dict[tuple[Org, int], tuple[int, int]] = {}

    async def principal(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """Return who sent `headers` (lower-case names, as ASGI gives them).

        Raises:
            Unauthenticated: No credential, or one that is unknown, revoked or expired.
        """
        credential, wanted = _sent(headers)
        cached = self._cache.get(credential)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1]
        return await self._resolve(credential, wanted.decode("utf-8", "replace"))

    def require_operator(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise unless `headers` carry the operator's token.

        Raises:
            Unauthenticated: No credential at all.
            Denied: Another credential, whatever it is.
        """
        token = _token(_sent(headers)[0])
        if not hmac.compare_digest(token, self._operator_token):
            raise Denied("only the operator may do this; its token lies in the data directory")

    def forget(self) -> None:
        """Empty the cache: a key was revoked, rotated or made."""
        self._cache.clear()

    async def flush(self) -> None:
        """Write gathered uses and failures, if there are any."""
        if self._used or self._failed:
            used, failed = self._used, self._failed
            self._used, self._failed = {}, {}
            await self._keys.record_use(used, failed)

    async def _resolve(self, credential: bytes, wanted: str) -> Principal:
        token = _token(credential)
        if hmac.compare_digest(token, self._operator_token):
            return await self._operator(wanted)
        text = token.decode("latin-1")
        key = await self._keys.find(keys.hash_of(text)) if keys.plausible(text) else None
        if key is None:
            raise Unauthenticated("Unauthorized: unknown API key")
        now = self._clock()
        if not key.is_active or (key.expires_at is not None and key.expires_at <= now):
            count = self._failed.get((key.org, key.number), (0, 0))[0]
            self._failed[key.org, key.number] = (count + 1, now)
            raise Unauthenticated("Unauthorized: this API key was revoked or has expired")
        self._used[key.org, key.number] = now
        principal = _principal_of(key)
        if len(self._cache) >= CACHED_MAX:
            self._cache.clear()
        self._cache[credential] = (time.monotonic() + CACHE_SECONDS, principal)
        return principal

    async def _operator(self, wanted: str) -> Principal:
        organisation = pick(await self._organisations.list(), wanted)
        return Principal(organisation.org, "operator", _ALL, is_operator=True)


def _sent(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Return the credential, as a Bearer one, and the organisation that is asked for."""
    credential = wanted = b""
    for name, value in headers:
        if name == b"authorization":
            credential = value
        elif name == b"x-api-key" and not credential:
            credential = b"Bearer " + value
        elif name == b"x-bursar-org":
            wanted = value
    return credential, wanted


def _token(credential: bytes) -> bytes:
    scheme, _, token = credential.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        raise Unauthenticated("Unauthorized: send an API key as 'Authorization: Bearer ak_…' or 'x-api-key'")
    return token


def pick(organisations: list[Organisation], wanted: str) -> Organisation:
    """Return the organisation of that name or id, the first one for empty text.

    Raises:
        NotFound: There is none.
    """
    for organisation in organisations:
        if wanted in {"", organisation.name, text_from_id("org", organisation.id)}:
            return organisation
    raise NotFound("no such organisation; `bursar init` makes one", field="X-Bursar-Org")


def _principal_of(key: ApiKey) -> Principal:
    actor = f"key:{text_from_id('key', key.id)}"
    return Principal(key.org, actor, key.scopes, key.number, key.project, key.agent)
