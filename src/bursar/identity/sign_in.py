"""Coming in without a password of ours: by an invitation's code, or by an outside issuer's word.

    code in a mail      →  join       →  member, logged in
    IssuerClaims        →  by_issuer  →  the user of last time, one with that address, or a new one

Whoever signed up with somebody else's address has not proved it. When the address's true holder comes this
way, that account's password must not keep its power: it is replaced or emptied first.

Not here: the issuer's protocol (`oidc`), mails, routes.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import NamedTuple, Protocol

from bursar.core.errors import Denied, NotFound, Unauthenticated
from bursar.core.ids import Org, new_id
from bursar.identity import invitations
from bursar.identity.accounts import Accounts, NoOrganisation, SignedIn
from bursar.identity.passwords import check_policy
from bursar.identity.people import People
from bursar.identity.roles import Role
from bursar.identity.tokens import TokenType
from bursar.identity.users import Membership, User, actor_of, normal_email


class IssuerClaims(NamedTuple):
    """What an issuer says of whoever signed in there, its signature and addressee checked.

    Attributes:
        subject: Its name for the person; never given to another one.
        email: May be empty.
        is_verified: Whether the issuer vouches for the address.
    """

    issuer: str
    subject: str
    email: str
    is_verified: bool
    first_name: str = ""
    last_name: str = ""


class NotAdmitted(Denied):
    """The issuer knows the person, and no organisation does; an invitation cures it."""

    code = "not_admitted"


class OpenInvitations(Protocol):
    """Finds invitations by address."""

    async def open_for(self, email: str, *, at: int) -> list[bytes]:
        """Return the hashes of the open invitations of an address, oldest first."""
        ...


class SignIn:
    """Lets people in.

    Args:
        accounts, people: Who they are and where they belong.
        open_invitations: By address.
        first_org: The organisation that `domains` opens; None while there is none.
        domains: Whose people may join it by an issuer's word, as plain members.
        clock: Microseconds UTC.
    """

    def __init__(
        self,
        accounts: Accounts,
        people: People,
        open_invitations: OpenInvitations,
        first_org: Callable[[], Awaitable[Org | None]],
        *,
        domains: Collection[str],
        clock: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._users = accounts.users
        self._people = people
        self._open = open_invitations
        self._first_org = first_org
        self._domains = frozenset(domain.strip().lower() for domain in domains if domain.strip())
        self._clock = clock

    async def join(
        self, code: str, password: str, *, first_name: str = "", last_name: str = "", user_id: bytes = b""
    ) -> SignedIn:
        """Accept an invitation and begin a session in its organisation.

        A new user chooses a password. One with a proved account shows its own, or comes logged in
        (`user_id`): a code in an old mail is not enough to act as somebody.

        Raises:
            NotFound: The invitation is not open.
            InvalidInput: A new user without a good password.
            Unauthenticated: The address has an account, and nothing shows that it is the caller's.
            RateLimited: Too many passwords were tried.
        """
        found = await self._people.invitations.find(invitations.hash_of(code))
        is_open = found is not None and found.accepted_at is None and found.revoked_at is None
        if found is None or not found.email or not is_open or found.expires_at <= self._clock():
            raise NotFound("this invitation is not open any more; ask for a new one", field="code")
        user = await self._users.find_by_email(found.email)
        if user is not None and user.verified_at is None:
            check_policy(password, email=user.email)
            await self._accounts.set_password(user.id, password, actor=actor_of(user.id))
        elif user is not None and user.id != user_id:
            await self._require_password(user, password)
        known, place = await self._people.accept(code, password, first_name=first_name, last_name=last_name)
        return await self._enter(known.id, place)

    async def by_issuer(self, claims: IssuerClaims) -> SignedIn:
        """Begin a session for whoever an issuer has identified.

        Raises:
            Denied: The issuer does not vouch for the address.
            NotAdmitted: Nobody knows the address, and neither an invitation nor a domain opens a door.
            Unauthenticated: The user is disabled.
        """
        user = await self._users.find_external(claims.issuer, claims.subject)
        if user is None:
            user = await self._linked(claims)
        return await self._accounts.sign_in_proved(user)

    async def _linked(self, claims: IssuerClaims) -> User:
        """Return the user of the claims' address, linked to the issuer from now on."""
        if not claims.is_verified or not claims.email:
            raise Denied("the issuer does not say that your email is verified; verify it there first")
        email = normal_email(claims.email)
        user = await self._users.find_by_email(email)
        if user is not None and user.disabled_at is not None:
            raise Unauthenticated("Unauthorized: this user is disabled")
        now = self._clock()
        if user is not None and user.verified_at is None:
            await self._users.set_password(
                user.id, "", epoch=user.password_epoch, at=now, actor=actor_of(user.id)
            )
            user = await self._users.verify(user.id, at=now)
        user = await self._admitted(user, email, claims)
        await self._users.link_external(user.id, claims.issuer, claims.subject, at=now)
        return user

    async def _admitted(self, user: User | None, email: str, claims: IssuerClaims) -> User:
        """Return the user, made and let into organisations as invitations and domains allow."""
        now = self._clock()
        fresh = User(
            id=new_id(),
            email=email,
            first_name=claims.first_name,
            last_name=claims.last_name,
            created_at=now,
            verified_at=now,
        )
        known = user
        for hashed in await self._open.open_for(email, at=now):
            await self._people.invitations.accept(hashed, known or fresh, at=now)
            known = known or fresh
        if known is not None:
            return known
        org = await self._first_org() if email.rpartition("@")[2] in self._domains else None
        if org is None:
            raise NotAdmitted("no organisation knows this email; ask an administrator for an invitation")
        await self._users.add(fresh, org, Role.MEMBER, actor=actor_of(fresh.id))
        return fresh

    async def _require_password(self, user: User, password: str) -> None:
        """Compare it as a log-in does, counted as one."""
        with suppress(NoOrganisation):
            await self._accounts.log_in(user.email, password)

    async def _enter(self, user_id: bytes, place: Membership) -> SignedIn:
        """Begin a session in that place, whatever other places the user has."""
        user = await self._users.find(user_id)
        if user is None:
            raise Unauthenticated("Unauthorized: this user is gone")
        signed = await self._accounts.sign_in_proved(user)
        if signed.membership.org == place.org:
            return signed
        session = (await self._accounts.tokens.verify(signed.token, TokenType.ACCESS)).session
        return await self._accounts.switch(user_id, session, place.org_id)
