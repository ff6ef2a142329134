"""Who belongs to an organisation, by its administrators' decisions: invitations, roles, personal tokens.

Only an owner may make an owner, unmake one, or act on one's account; the operator may do all of it.

Not here: what people do with their own accounts (`accounts`), routes.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from bursar.core.errors import Conflict, Denied, InvalidInput, NotFound
from bursar.core.ids import Org, new_id, text_from_id
from bursar.identity import invitations, personal_tokens
from bursar.identity.accounts import Accounts
from bursar.identity.invitations import Invitation
from bursar.identity.passwords import check_policy
from bursar.identity.personal_tokens import PersonalToken
from bursar.identity.ports import InvitationStore, PersonalTokenStore
from bursar.identity.roles import Role
from bursar.identity.users import Member, Membership, User, actor_of, normal_email

TOKENS_MAX = 100


class Invited(NamedTuple):
    """An invitation and the code that its link carries; the code is stored nowhere."""

    invitation: Invitation
    code: str


class Decider(NamedTuple):
    """Who decides: for the audit log, and in which role; None for the operator and API keys."""

    actor: str
    role: Role | None
    is_operator: bool = False


class People:
    """The people of organisations.

    Args:
        accounts: Their accounts.
        invitation_store, token_store: Where the rest lies.
        clock: Microseconds UTC.
        forget: Empties cached credentials.
    """

    def __init__(
        self,
        accounts: Accounts,
        invitation_store: InvitationStore,
        token_store: PersonalTokenStore,
        *,
        clock: Callable[[], int],
        forget: Callable[[], None],
    ) -> None:
        self.invitations = invitation_store
        self.tokens = token_store
        self._accounts = accounts
        self._users = accounts.users
        self._clock = clock
        self._forget = forget

    async def members(self, org: Org) -> list[Member]:
        """Return the organisation's people, oldest first."""
        return await self._users.members(org)

    async def member(self, org: Org, user_id: bytes) -> Member:
        """Return one of them.

        Raises:
            NotFound: Not a member.
        """
        for member in await self._users.members(org):
            if member.user.id == user_id:
                return member
        raise NotFound("no such user in this organisation", field="user_id")

    async def memberships(self, user_id: bytes) -> list[Membership]:
        """Return the user's places in organisations that are not deleted, oldest first."""
        return await self._users.memberships(user_id)

    async def add_verified(self, org: Org, email: str, password: str, role: Role, *, by: Decider) -> Member:
        """Make a user whose address nobody has to prove, or a known one a member; the operator's alone.

        Raises:
            InvalidInput: No address, or a new user's password that the policy refuses.
            Conflict: The user is known and has another password, or would cease to be the last owner.
            Denied: Not the operator.
        """
        _require_operator(by)
        normal = normal_email(email)
        known = await self._users.find_by_email(normal)
        if known is not None:
            passwords = self._accounts.passwords
            if password and not await passwords.verify(known.password_hash, password):
                raise Conflict("this user already exists with another password; leave it out", field="email")
            joined = await self._users.join(org, known.id, role, at=self._clock(), actor=by.actor)
            self._forget()
            return joined
        check_policy(password, email=normal)
        now = self._clock()
        hashed = await self._accounts.passwords.hash(password)
        user = User(id=new_id(), email=normal, password_hash=hashed, created_at=now, verified_at=now)
        made = await self._users.add(user, org, role, actor=by.actor)
        return Member(user=user, role=made.role, joined_at=made.created_at)

    async def invite(self, org: Org, email: str, role: Role, *, by: Decider) -> Invited:
        """Invite an address; an open invitation of it is over.

        Raises:
            InvalidInput: No address.
            Denied: Only an owner may invite an owner.
        """
        _require_owner_for(role, by)
        now = self._clock()
        code = invitations.generate()
        made = Invitation(
            org=org,
            id=new_id(),
            email=normal_email(email),
            role=role,
            inviter=by.actor,
            created_at=now,
            expires_at=now + invitations.LIFE_MICROS,
        )
        await self.invitations.create(made, invitations.hash_of(code), actor=by.actor)
        return Invited(made, code)

    async def revoke_invitation(self, org: Org, invitation_id: bytes, *, by: Decider) -> None:
        """Close an invitation; repeating it changes nothing.

        Raises:
            NotFound: No such invitation in this organisation.
        """
        await self.invitations.revoke(org, invitation_id, at=self._clock(), actor=by.actor)

    async def accept(
        self, code: str, password: str = "", *, first_name: str = "", last_name: str = ""
    ) -> tuple[User, Membership]:
        """Join by an invitation's code. A new user needs a password; a known one joins as it is.

        Raises:
            NotFound: The invitation is not open.
            InvalidInput: A new user without a good password.
        """
        hashed = invitations.hash_of(code)
        found = await self.invitations.find(hashed)
        if found is None:
            raise NotFound("this invitation is not open any more; ask for a new one", field="code")
        now = self._clock()
        user = await self._users.find_by_email(found.email)
        if user is None:
            check_policy(password, email=found.email)
            user = User(
                id=new_id(),
                email=found.email,
                password_hash=await self._accounts.passwords.hash(password),
                first_name=first_name,
                last_name=last_name,
                created_at=now,
                verified_at=now,
            )
        joined = await self.invitations.accept(hashed, user, at=now)
        self._forget()
        return user, joined

    async def set_role(self, org: Org, user_id: bytes, role: Role, *, by: Decider) -> Member:
        """Change a member's role, at once.

        Raises:
            NotFound: Not a member.
            Denied: Only an owner may make or unmake an owner.
            Conflict: It is the last owner.
        """
        _require_owner_for(role, by)
        _require_owner_for((await self.member(org, user_id)).role, by)
        changed = await self._users.set_role(org, user_id, role, at=self._clock(), actor=by.actor)
        self._forget()
        return changed

    async def remove(self, org: Org, user_id: bytes, *, by: Decider) -> None:
        """Take a member out, at once.

        Raises:
            NotFound: Not a member.
            Denied: Only an owner may take out an owner.
            Conflict: It is the last owner.
        """
        _require_owner_for((await self.member(org, user_id)).role, by)
        await self._users.remove(org, user_id, at=self._clock(), actor=by.actor)
        self._forget()

    async def set_disabled(self, org: Org, user_id: bytes, *, is_disabled: bool, by: Decider) -> Member:
        """Shut a user out of everything, or let it in again. The operator's alone: a user is everybody's.

        Raises:
            NotFound: Not a member.
            Denied: Not the operator.
            Conflict: It is the last owner of an organisation.
        """
        _require_operator(by)
        member = await self.member(org, user_id)
        user = await self._users.set_disabled(
            user_id, is_disabled=is_disabled, at=self._clock(), actor=by.actor
        )
        self._forget()
        return Member(user=user, role=member.role, joined_at=member.joined_at)

    async def set_password(self, org: Org, user_id: bytes, password: str, *, by: Decider) -> Member:
        """Set a member's password. The operator's alone; every session ends.

        Raises:
            NotFound: Not a member.
            Denied: Not the operator.
            InvalidInput: The policy refuses it.
        """
        _require_operator(by)
        member = await self.member(org, user_id)
        user = await self._accounts.set_password(user_id, password, actor=by.actor)
        return Member(user=user, role=member.role, joined_at=member.joined_at)

    async def create_token(
        self, user_id: bytes, name: str, *, expires_at: int | None = None, actor: str = ""
    ) -> tuple[PersonalToken, str]:
        """Make a personal token and return it with its text, which is stored nowhere.

        Raises:
            InvalidInput: The user has a hundred that work already.
        """
        active = [one for one in await self.tokens.list(user_id) if one.revoked_at is None]
        if len(active) >= TOKENS_MAX:
            raise InvalidInput(f"you have {TOKENS_MAX} tokens; revoke one first", field="name")
        text = personal_tokens.generate()
        token = PersonalToken(
            id=new_id(),
            user=user_id,
            name=name,
            prefix=personal_tokens.shown_prefix(text),
            created_at=self._clock(),
            expires_at=expires_at,
        )
        hashed = hashlib.sha256(text.encode()).digest()
        await self.tokens.create(token, hashed, actor=actor or actor_of(user_id))
        return token, text

    async def revoke_token(self, user_id: bytes, token_id: bytes) -> None:
        """End a personal token, at once.

        Raises:
            NotFound: The user has no such token.
        """
        await self.tokens.revoke(user_id, token_id, at=self._clock(), actor=actor_of(user_id))
        self._forget()


def user_text(user_id: bytes) -> str:
    """Return a user's id as native routes print it."""
    return text_from_id("usr", user_id)


def _require_owner_for(role: Role, by: Decider) -> None:
    if role is Role.OWNER and by.role is not Role.OWNER and not by.is_operator:
        raise Denied("only an owner may do this to an owner")


def _require_operator(by: Decider) -> None:
    if not by.is_operator:
        raise Denied("only the operator may do this; its token lies in the data directory")
