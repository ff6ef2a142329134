"""What identity needs from a storage engine."""

from typing import Protocol

from bursar.core.ids import Org
from bursar.identity.codes import Outcome, Purpose
from bursar.identity.invitations import Invitation
from bursar.identity.keys import ApiKey
from bursar.identity.personal_tokens import PersonalToken
from bursar.identity.roles import Role
from bursar.identity.sessions import Session, Standing
from bursar.identity.tokens import SigningKey
from bursar.identity.users import Member, Membership, User


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
        self,
        org: Org,
        key_id: bytes,
        successor: ApiKey,
        key_hash: bytes,
        *,
        actor: str,
        overlap_micros: int = 0,
    ) -> ApiKey:
        """Store a key's successor; the old one works for `overlap_micros` more, in the same transaction.

        Raises:
            NotFound: No such active key in this organisation, or it has a successor: of two rotations at
                the same time exactly one succeeds.
        """
        ...

    async def record_use(
        self, used: dict[tuple[Org, int], int], failed: dict[tuple[Org, int], tuple[int, int]]
    ) -> None:
        """Write when keys were last used (micros), and failed uses (count, last micros)."""
        ...


class UserStore(Protocol):
    """People and their memberships. Each change is written with its audit entry or not at all."""

    async def find(self, user_id: bytes) -> User | None:
        """Return the user with that id, disabled ones too."""
        ...

    async def find_by_email(self, email: str) -> User | None:
        """Return the user with that normal address (`users.normal_email`)."""
        ...

    async def register(self, user: User, org_name: str, zone: str) -> Membership:
        """Store a new user as the owner of a new organisation, all or nothing.

        A name that another organisation has gets a number behind it: ` (2)`, ` (3)`, ….

        Raises:
            Conflict: The address is taken.
        """
        ...

    async def add(self, user: User, org: Org, role: Role, *, actor: str) -> Membership:
        """Store a new user as a member of an organisation.

        Raises:
            Conflict: The address is taken.
        """
        ...

    async def join(self, org: Org, user_id: bytes, role: Role, *, at: int, actor: str) -> Member:
        """Make a known user a member in that role, or change the role.

        Raises:
            NotFound: No such user.
            Conflict: It would leave the organisation without an owner.
        """
        ...

    async def memberships(self, user_id: bytes) -> list[Membership]:
        """Return the user's places in organisations that are not deleted, oldest first."""
        ...

    async def owned_deleted(self, user_id: bytes) -> list[Membership]:
        """Return the deleted organisations that the user owns, oldest first."""
        ...

    async def members(self, org: Org) -> list[Member]:
        """Return the organisation's people, oldest first."""
        ...

    async def set_role(self, org: Org, user_id: bytes, role: Role, *, at: int, actor: str) -> Member:
        """Change a member's role.

        Raises:
            NotFound: No such user in this organisation.
            Conflict: It would leave the organisation without an owner.
        """
        ...

    async def remove(self, org: Org, user_id: bytes, *, at: int, actor: str) -> None:
        """Take the user out of the organisation.

        Raises:
            NotFound: Not a member.
            Conflict: It is the last owner.
        """
        ...

    async def verify(self, user_id: bytes, *, at: int) -> User:
        """Mark the address as proved; repeating it changes nothing."""
        ...

    async def rename(self, user_id: bytes, first_name: str, last_name: str, *, at: int) -> User:
        """Change the names."""
        ...

    async def set_password(
        self, user_id: bytes, password_hash: str, *, epoch: int, at: int, actor: str
    ) -> User:
        """Store a new password's hash, count the epoch up, end every session, drop every code.

        Raises:
            Conflict: The epoch is not `epoch` any more: somebody else has just changed it.
            NotFound: No such user.
        """
        ...

    async def replace_hash(self, user_id: bytes, old: str, new: str) -> None:
        """Store the same password's hash by newer parameters, if `old` still stands."""
        ...

    async def set_disabled(self, user_id: bytes, *, is_disabled: bool, at: int, actor: str) -> User:
        """Shut a user out (its sessions end, its tokens fail) or let it in again.

        Raises:
            NotFound: No such user.
            Conflict: It is the last owner of an organisation.
        """
        ...

    async def find_external(self, issuer: str, subject: str) -> User | None:
        """Return the user whom an outside issuer knows by that subject."""
        ...

    async def link_external(self, user_id: bytes, issuer: str, subject: str, *, at: int) -> None:
        """Remember that an outside issuer's subject is this user.

        Raises:
            Conflict: The subject is another user's.
        """
        ...


class SessionStore(Protocol):
    """Sign-ins."""

    async def start(self, session: Session) -> None:
        """Store a new session."""
        ...

    async def find(self, session_id: bytes) -> Session | None:
        """Return it, over or not."""
        ...

    async def list(self, user_id: bytes, now: int) -> list[Session]:
        """Return the user's sessions that are not over, oldest first."""
        ...

    async def prolong(self, session_id: bytes, *, at: int, expires_at: int) -> bool:
        """Move the end on; false when it is over already, and nothing changed."""
        ...

    async def end(self, session_id: bytes, *, at: int) -> None:
        """End it; harmless when it is over."""
        ...

    async def end_all(self, user_id: bytes, *, at: int) -> None:
        """End every session of a user."""
        ...

    async def standing(self, session_id: bytes, user_id: bytes, org_id: bytes, now: int) -> Standing | None:
        """Return what the session's user is in an organisation; None unless all of this holds.

        The session is of that user and not over, its password epoch is the user's, the user is verified
        and not disabled, and a member of that organisation.
        """
        ...


class CodeStore(Protocol):
    """One-time codes, and the counters that slow guessing down."""

    async def issue(self, user_id: bytes, purpose: Purpose, code_hash: bytes, *, at: int) -> None:
        """Store a code in place of any earlier one of that purpose."""
        ...

    async def attempt(self, user_id: bytes, purpose: Purpose, code_hash: bytes, *, at: int) -> Outcome:
        """Count one guess and compare it; a match uses the code up.

        Committed before it answers, so neither parallel guesses nor a restart give more than
        `codes.TRIES_MAX` comparisons a code.
        """
        ...

    async def take(self, kind: str, subject: str, *, most: int, window_s: int, at: int) -> int | None:
        """Count one use of a kind by a subject; return None, or the seconds until one is free again.

        At most `most` in each window of `window_s` that begins with its first use. A use that is refused
        is not counted. Of the subject only a hash is stored.
        """
        ...

    async def forget(self, kind: str, subject: str) -> None:
        """Begin the subject's count again."""
        ...


class PersonalTokenStore(Protocol):
    """Personal tokens."""

    async def create(self, token: PersonalToken, token_hash: bytes, *, actor: str) -> None:
        """Store a new token."""
        ...

    async def standings(self, token_hash: bytes, now: int) -> list[Standing]:
        """Return what the token's user is in each organisation, oldest membership first.

        Empty for a token that is unknown, revoked or over, and for a user who is disabled.
        """
        ...

    async def list(self, user_id: bytes) -> list[PersonalToken]:
        """Return the user's tokens, oldest first, revoked ones too."""
        ...

    async def revoke(self, user_id: bytes, token_id: bytes, *, at: int, actor: str) -> None:
        """End a token; repeating it changes nothing.

        Raises:
            NotFound: The user has no such token.
        """
        ...

    async def record_use(self, used: dict[bytes, int]) -> None:
        """Write when tokens were last used: micros by hash."""
        ...


class InvitationStore(Protocol):
    """Invitations."""

    async def create(self, invitation: Invitation, code_hash: bytes, *, actor: str) -> None:
        """Store a new invitation; an open one for the same address is revoked."""
        ...

    async def list(self, org: Org) -> list[Invitation]:
        """Return all of an organisation, oldest first."""
        ...

    async def find(self, code_hash: bytes) -> Invitation | None:
        """Return the invitation of that code, over or not."""
        ...

    async def accept(self, code_hash: bytes, user: User, *, at: int) -> Membership:
        """Make `user` a member; one with an unknown address is stored as well, verified.

        Raises:
            NotFound: No open invitation of that code for that address.
            Conflict: The address is a user's already, and `user` is not that one.
        """
        ...

    async def revoke(self, org: Org, invitation_id: bytes, *, at: int, actor: str) -> None:
        """Close an invitation; repeating it changes nothing.

        Raises:
            NotFound: No such invitation in this organisation.
        """
        ...


class SigningKeyStore(Protocol):
    """The secrets that tokens are signed with."""

    def all(self) -> list[SigningKey]:
        """Return the keys, oldest first, retired ones too. One short read."""
        ...

    async def add(self, key: SigningKey, *, retire_others_at: int | None) -> None:
        """Store a key; with a time, every other one only verifies until then."""
        ...
