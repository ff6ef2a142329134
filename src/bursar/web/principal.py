"""Who is speaking: one `Principal`, resolved once a request, from whatever credential came.

    ak_… cg_… acg_…   an API key        as `Authorization: Bearer …` or as `x-api-key`
    eyJ…              an access token   of a person's session, in the organisation that it names
    bp_…              a personal token  of a person, in the organisation that `X-Bursar-Org` names
    op_…              the operator's    (in the data directory, mode 0600), likewise; the command line uses it

Where `X-Bursar-Org` is absent the first organisation is meant: the oldest membership of a person, the oldest
organisation for the operator.
"""

import hmac
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bursar.core.errors import Denied, NotFound, Unauthenticated
from bursar.core.ids import Org, text_from_id
from bursar.directory.organisations import Organisation, OrganisationStore
from bursar.identity import keys, personal_tokens
from bursar.identity.keys import ApiKey, Scope
from bursar.identity.ports import KeyStore, PersonalTokenStore, SessionStore
from bursar.identity.roles import Role, scopes_of
from bursar.identity.sessions import Standing
from bursar.identity.tokens import KEYS_AGE_S, LENGTH_MAX, Tokens, TokenType, looks_like_one
from bursar.identity.users import actor_of

CACHE_SECONDS = 0.8
"""With the time of a request this is less than the second in which every process has heard."""
CACHED_MAX = 10_000
_ALL = frozenset(Scope)
_NO_CREDENTIAL = (
    "Unauthorized: send 'Authorization: Bearer …' with an API key or an access token, "
    "or an API key as 'x-api-key'"
)
_DELETED = (
    "this organisation is deleted; whoever runs the server can bring it back with `bursar orgs restore`"
)


class OrganisationDeleted(Denied):
    """The organisation is deleted; the operator can restore it."""

    code = "organisation_deleted"


class Principal(NamedTuple):
    """Who, in which organisation, with which scopes, bound to what.

    Attributes:
        org: The organisation that everything of the request happens in.
        actor: For the audit log: `user:usr_…`, `key:key_…` or `operator`.
        scopes: What it may do; a person's come from its role.
        api_key: The key's row number, which events carry; 0 for anybody else.
        project, agent: What a key is bound to; empty for anything.
        role: A person's role in `org`; None for keys and the operator.
        user: A person's id, 16 bytes; empty for keys and the operator.
        session: The session of an access token, 16 bytes; empty for anything else.
    """

    org: Org
    actor: str
    scopes: frozenset[Scope]
    api_key: int = 0
    project: str = ""
    agent: str = ""
    is_operator: bool = False
    role: Role | None = None
    user: bytes = b""
    session: bytes = b""

    def require(self, scope: Scope) -> None:
        """Raise `Denied` unless this principal has `scope` (or admin)."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            if self.role is not None:
                raise Denied(f"the role {self.role} does not give the scope {scope}; ask an administrator")
            raise Denied(f"this key lacks the scope {scope}; create one that has it")


class Persons(NamedTuple):
    """How people are recognised."""

    tokens: Tokens
    sessions: SessionStore
    personal_tokens: PersonalTokenStore


class Authenticator:
    """Resolves credentials. Positive answers are cached for at most a second.

    A revocation in this process empties the cache at once (`forget`); the second is the bound
    for one made in another, counted from before the database was asked. Uses are gathered here
    and written in batches (`flush`).
    """

    def __init__(
        self,
        key_store: KeyStore,
        organisations: OrganisationStore,
        operator_token: str,
        clock: Callable[[], int],
        persons: Persons,
    ) -> None:
        self._keys = key_store
        self._organisations = organisations
        self._operator_token = operator_token.encode()
        self._clock = clock
        self._persons = persons
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        self._forgotten = 0
        self._used: dict[tuple[Org, int], int] = {}
        self._failed: dict[tuple[Org, int], tuple[int, int]] = {}
        self._tokens_used: dict[bytes, int] = {}

    async def principal(
        self, headers: Iterable[tuple[bytes, bytes]], *, may_be_deleted: bool = False
    ) -> Principal:
        """Return who sent `headers` (lower-case names, as ASGI gives them).

        `may_be_deleted` lets a person into an organisation that is deleted: to restore it.

        Raises:
            Unauthenticated: No credential, or one that is unknown, revoked, expired or over.
            OrganisationDeleted: The organisation is.
            NotFound: `X-Bursar-Org` names none of the user's.
        """
        credential, wanted = _sent(headers)
        # No header holds a line feed, so two pairs never look the same.
        place = credential + b"\n" + wanted if wanted else credential
        cached = self._cache.get(place)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1]
        token = _token(credential)
        if hmac.compare_digest(token, self._operator_token):
            return await self._operator(wanted.decode("utf-8", "replace"))
        text = token.decode("latin-1")
        forgotten, until = self._forgotten, time.monotonic() + CACHE_SECONDS
        if looks_like_one(text):
            # The keys that it was verified by were of that age already.
            until -= KEYS_AGE_S
            found, is_deleted = await self._by_access_token(text)
        elif text.startswith(personal_tokens.PREFIX):
            found, is_deleted = await self._by_personal_token(text, wanted.decode("utf-8", "replace"))
        else:
            found, is_deleted = await self._by_key(text)
        if not is_deleted:
            # What was revoked here while it was being read is not kept.
            if forgotten == self._forgotten:
                self._remember(place, found, until)
        elif not may_be_deleted:
            raise OrganisationDeleted(_DELETED)
        return found

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
        """Empty the cache: a key, a session, a token, a role or an organisation has changed."""
        self._forgotten += 1
        self._cache.clear()

    async def flush(self) -> None:
        """Write gathered uses and failures, if there are any."""
        if self._used or self._failed:
            used, failed = self._used, self._failed
            self._used, self._failed = {}, {}
            await self._keys.record_use(used, failed)
        if self._tokens_used:
            tokens, self._tokens_used = self._tokens_used, {}
            await self._persons.personal_tokens.record_use(tokens)

    def _remember(self, credential: bytes, principal: Principal, until: float) -> None:
        if len(self._cache) >= CACHED_MAX:
            self._cache.clear()
        self._cache[credential] = (until, principal)

    async def _by_key(self, text: str) -> tuple[Principal, bool]:
        key = await self._keys.find(keys.hash_of(text)) if keys.plausible(text) else None
        if key is None:
            raise Unauthenticated("Unauthorized: unknown API key")
        now = self._clock()
        if not key.works_at(now):
            count = self._failed.get((key.org, key.number), (0, 0))[0]
            self._failed[key.org, key.number] = (count + 1, now)
            raise Unauthenticated("Unauthorized: this API key was revoked or has expired")
        if key.org_deleted_at is not None:
            # A key cannot restore anything, so no route lets it pass.
            raise OrganisationDeleted(_DELETED)
        self._used[key.org, key.number] = now
        return _principal_of(key), False

    async def _by_access_token(self, text: str) -> tuple[Principal, bool]:
        claims = await self._persons.tokens.verify(text, TokenType.ACCESS)
        standing = await self._persons.sessions.standing(
            claims.session, claims.user, claims.org, self._clock()
        )
        if standing is None:
            raise Unauthenticated("Unauthorized: this session has ended; log in again")
        return _person(standing, claims.session), standing.org_deleted_at is not None

    async def _by_personal_token(self, text: str, wanted: str) -> tuple[Principal, bool]:
        standings: list[Standing] = []
        hashed = keys.hash_of(text)
        now = self._clock()
        if personal_tokens.plausible(text):
            standings = await self._persons.personal_tokens.standings(hashed, now)
        if not standings:
            raise Unauthenticated("Unauthorized: this token is unknown, revoked or has expired")
        self._tokens_used[hashed] = now
        standing = await self._picked(standings, wanted)
        return _person(standing, b""), standing.org_deleted_at is not None

    async def _picked(self, standings: list[Standing], wanted: str) -> Standing:
        """Return the place that is asked for: by id or name, else the oldest that is not deleted."""
        if not wanted:
            return next((one for one in standings if one.org_deleted_at is None), standings[0])
        for standing in standings:
            if wanted == text_from_id("org", standing.org_id):
                return standing
            if wanted == (await self._organisations.get(standing.org)).name:
                return standing
        raise NotFound("you belong to no such organisation", field="X-Bursar-Org")

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
        raise Unauthenticated(_NO_CREDENTIAL)
    if len(token) > LENGTH_MAX:
        raise Unauthenticated(f"Unauthorized: no credential has more than {LENGTH_MAX} characters")
    return token


def pick(organisations: list[Organisation], wanted: str) -> Organisation:
    """Return the organisation of that name or id, the first one that is not deleted for empty text.

    Raises:
        NotFound: There is none.
    """
    for organisation in organisations:
        if wanted in {organisation.name, text_from_id("org", organisation.id)}:
            return organisation
        if not wanted and organisation.deleted_at is None:
            return organisation
    raise NotFound("no such organisation; `bursar init` makes one", field="X-Bursar-Org")


def _principal_of(key: ApiKey) -> Principal:
    actor = f"key:{text_from_id('key', key.id)}"
    return Principal(key.org, actor, key.scopes, key.number, key.project, key.agent)


def _person(standing: Standing, session: bytes) -> Principal:
    role = standing.role
    return Principal(
        standing.org,
        actor_of(standing.user),
        scopes_of(role),
        role=role,
        user=standing.user,
        session=session,
    )
