"""What people do with their accounts: sign up, prove an address, log in, refresh, change the password.

    register  →  code  →  verify  →  log in  →  refresh …  →  log out
                 forgot  →  code  →  reset token  →  new password

Composes the stores of `ports` with `passwords`, `codes` and `tokens`. Codes are given back to the caller,
who mails them; nothing here sends, and nothing here knows HTTP. Whatever ends a session or a token calls
`forget`, so that no cached answer outlives it in this process.

A log-in and a forgotten password do the same work for an unknown address as for a known one.

Not here: OIDC, mail, invitations by people (`people`), routes.
"""

from collections.abc import Callable
from typing import NamedTuple

from bursar.core.errors import Denied, InvalidInput, NotFound, RateLimited, Unauthenticated
from bursar.core.ids import new_id
from bursar.identity import codes
from bursar.identity.codes import Outcome, Purpose
from bursar.identity.passwords import Passwords, check_policy
from bursar.identity.ports import CodeStore, SessionStore, UserStore
from bursar.identity.sessions import ACCESS_MICROS, GRACE_MICROS, Session
from bursar.identity.tokens import Claims, Tokens, TokenType
from bursar.identity.users import Membership, User, actor_of, normal_email

HOUR_S = 3_600
DAY_S = 86_400


class Limit(NamedTuple):
    """At most so many in a window of so many seconds."""

    most: int
    window_s: int


LOGINS_BY_ACCOUNT = Limit(20, 900)
LOGINS_BY_ADDRESS = Limit(60, 900)
CODES_BY_ACCOUNT = Limit(5, HOUR_S)
CODES_BY_ADDRESS = Limit(20, HOUR_S)
GUESSES_BY_ACCOUNT = Limit(25, DAY_S)
GUESSES_BY_ADDRESS = Limit(30, 900)
REGISTRATIONS_BY_ADDRESS = Limit(20, HOUR_S)


class SignedIn(NamedTuple):
    """A fresh access token and whose it is."""

    token: str
    user: User
    membership: Membership


class Issued(NamedTuple):
    """A code to be mailed: to whom, for what. `user` is None when nobody has that address."""

    user: User | None
    code: str


class WrongCode(InvalidInput):
    """The code is wrong, over, used up or was never issued; the caller may ask for a new one."""

    code = "invalid_code"


class EmailUnverified(Denied):
    """The password is right and the address is not proved yet; a code cures it."""

    code = "email_unverified"


class NoOrganisation(Denied):
    """The user belongs to no organisation that stands; an invitation or a restore cures it."""

    code = "no_organisation"


class Accounts:
    """The accounts of one installation.

    Args:
        users, sessions, code_store: Where everything lies.
        passwords: Hashes.
        tokens: Signs.
        code_secret: The key of codes' hashes; not in the database.
        clock: Microseconds UTC.
        forget: Empties cached credentials.
    """

    def __init__(
        self,
        users: UserStore,
        sessions: SessionStore,
        code_store: CodeStore,
        *,
        passwords: Passwords,
        tokens: Tokens,
        code_secret: bytes,
        clock: Callable[[], int],
        forget: Callable[[], None],
    ) -> None:
        self.users = users
        self.sessions = sessions
        self.passwords = passwords
        self.tokens = tokens
        self._codes = code_store
        self._code_secret = code_secret
        self._clock = clock
        self._forget = forget

    async def register(
        self,
        email: str,
        password: str,
        org_name: str,
        *,
        first_name: str = "",
        last_name: str = "",
        zone: str = "UTC",
        address: str = "",
    ) -> Issued:
        """Store a user who owns a new organisation, and return the code that proves the address.

        `address` is the caller's network address, for the throttle.

        Raises:
            InvalidInput: No address, or a password that the policy refuses.
            Conflict: The address is taken.
            RateLimited: Too many from this network address.
        """
        normal = normal_email(email)
        check_policy(password, email=normal)
        await self._take("register", address, REGISTRATIONS_BY_ADDRESS)
        user = User(
            id=new_id(),
            email=normal,
            password_hash=await self.passwords.hash(password),
            first_name=first_name,
            last_name=last_name,
            created_at=self._clock(),
        )
        await self.users.register(user, org_name, zone)
        return await self._issue(user, Purpose.VERIFY)

    async def new_code(self, email: str, purpose: Purpose, *, address: str = "") -> Issued:
        """Make a fresh code; the old one is over. An unknown or disabled user gets none, by the same work.

        A code that proves an address is made only while it is not proved.

        Raises:
            InvalidInput: No address.
            RateLimited: Too many for this account or from this network address.
        """
        normal = normal_email(email)
        await self._take(f"{purpose}.code.address", address, CODES_BY_ADDRESS)
        await self._take(f"{purpose}.code.account", normal, CODES_BY_ACCOUNT)
        user = await self.users.find_by_email(normal)
        is_moot = user is not None and purpose is Purpose.VERIFY and user.verified_at is not None
        if user is None or user.disabled_at is not None or is_moot:
            # A code for nobody is stored all the same: one commit more would tell the two apart.
            await self._issue(User(id=bytes(16), email=normal), purpose)
            return Issued(None, "")
        return await self._issue(user, purpose)

    async def verify_email(self, email: str, code: str, *, address: str = "") -> SignedIn:
        """Prove the address by its code, and log in.

        Raises:
            WrongCode: Anything but the code.
            RateLimited: Too many guesses.
        """
        user = await self._proved(email, Purpose.VERIFY, code, address)
        user = await self.users.verify(user.id, at=self._clock())
        self._forget()
        return await self._sign_in(user)

    async def log_in(self, email: str, password: str, *, address: str = "") -> SignedIn:
        """Check a password and begin a session.

        Raises:
            Unauthenticated: Unknown, disabled or wrong: one sentence, one amount of work.
            EmailUnverified: The password is right, the address not proved.
            NoOrganisation: Nothing to log in to.
            RateLimited: Too many attempts.
        """
        try:
            normal = normal_email(email)
        except InvalidInput:
            normal = ""
        await self._take("login.address", address, LOGINS_BY_ADDRESS)
        await self._take("login.account", normal, LOGINS_BY_ACCOUNT)
        user = await self.users.find_by_email(normal)
        if not await self._knows(user, password):
            raise Unauthenticated("Unauthorized: the email or the password is wrong")
        assert user is not None  # noqa: S101 - nobody has no password
        if user.disabled_at is not None:
            raise Unauthenticated("Unauthorized: the email or the password is wrong")
        await self._codes.forget("login.account", normal)
        await self._rehash(user, password)
        if user.verified_at is None:
            raise EmailUnverified("this email is not verified yet; enter the code, or ask for a new one")
        return await self._sign_in(user)

    async def sign_in_proved(self, user: User) -> SignedIn:
        """Begin a session for a user whom somebody else has identified (OIDC, an invitation's link).

        Raises:
            Unauthenticated: The user is disabled.
            NoOrganisation: Nothing to log in to.
        """
        if user.disabled_at is not None:
            raise Unauthenticated("Unauthorized: this user is disabled")
        return await self._sign_in(user)

    async def refresh(self, text: str) -> SignedIn:
        """Exchange an access token, up to 24 hours after its end, for a fresh one of the same session.

        Raises:
            Unauthenticated: Not a token of ours, too old, or its session has ended.
        """
        claims = await self.tokens.verify(text, TokenType.ACCESS, grace_micros=GRACE_MICROS)
        now = self._clock()
        standing = await self.sessions.standing(claims.session, claims.user, claims.org, now)
        place = await self._place(claims)
        ends = now + ACCESS_MICROS + GRACE_MICROS
        if standing is None or not await self.sessions.prolong(claims.session, at=now, expires_at=ends):
            raise Unauthenticated("Unauthorized: this session has ended; log in again")
        return await self._token(await self._user(claims.user), place, claims.session)

    async def switch(self, user_id: bytes, session_id: bytes, org_id: bytes) -> SignedIn:
        """Return a token of the same session for another of the user's organisations.

        Raises:
            NotFound: It is none of them.
        """
        place = await self._place(Claims(user=user_id, org=org_id))
        return await self._token(await self._user(user_id), place, session_id)

    async def log_out(self, session_id: bytes) -> None:
        """End the session; every token of it is refused from now on."""
        await self.sessions.end(session_id, at=self._clock())
        self._forget()

    async def reset_token(self, email: str, code: str, *, address: str = "") -> str:
        """Exchange a reset code for a token that changes the password once, within five minutes.

        Raises:
            WrongCode: Anything but the code.
            RateLimited: Too many guesses.
        """
        user = await self._proved(email, Purpose.RESET, code, address)
        return await self.tokens.issue(TokenType.RESET, user.id, epoch=user.password_epoch)

    async def reset_password(self, text: str, password: str) -> User:
        """Set a new password by a reset token; every session ends. The code proved the address, too.

        Raises:
            InvalidInput: The policy refuses the password.
            Unauthenticated: Not a reset token, over, or used.
        """
        claims = await self.tokens.verify(text, TokenType.RESET)
        user = await self._user(claims.user)
        if user.password_epoch != claims.epoch or user.disabled_at is not None:
            raise Unauthenticated("Unauthorized: this token is not valid; ask for a new code")
        check_policy(password, field="new_password", email=user.email)
        await self._set_password(user, password, actor_of(user.id))
        return await self.users.verify(user.id, at=self._clock())

    async def change_password(self, user_id: bytes, current: str, password: str) -> SignedIn:
        """Set a new password by the old one; every session ends, and a fresh one begins.

        Raises:
            InvalidInput: The policy refuses the new one.
            Denied: The old one is wrong.
            RateLimited: Too many attempts.
        """
        user = await self._user(user_id)
        await self._take("login.account", user.email, LOGINS_BY_ACCOUNT)
        if not await self._knows(user, current):
            raise Denied("the current password is wrong", field="current_password")
        check_policy(password, field="new_password", email=user.email)
        return await self._sign_in(await self._set_password(user, password, actor_of(user_id)))

    async def set_password(self, user_id: bytes, password: str, *, actor: str) -> User:
        """Set a password on somebody's behalf; every session ends.

        Raises:
            InvalidInput: The policy refuses it.
            NotFound: No such user.
        """
        user = await self._user(user_id)
        check_policy(password, email=user.email)
        return await self._set_password(user, password, actor)

    async def _proved(self, email: str, purpose: Purpose, code: str, address: str) -> User:
        normal = normal_email(email)
        await self._take(f"{purpose}.guess.address", address, GUESSES_BY_ADDRESS)
        await self._take(f"{purpose}.guess.account", normal, GUESSES_BY_ACCOUNT)
        user = await self.users.find_by_email(normal)
        user_id = bytes(16) if user is None else user.id
        hashed = codes.hash_of(self._code_secret, user_id, purpose, code)
        outcome = await self._codes.attempt(user_id, purpose, hashed, at=self._clock())
        if user is None or user.disabled_at is not None or outcome is not Outcome.MATCHED:
            raise WrongCode("this code is wrong or over; ask for a new one", field="code")
        return user

    async def _issue(self, user: User, purpose: Purpose) -> Issued:
        code = codes.generate()
        hashed = codes.hash_of(self._code_secret, user.id, purpose, code)
        await self._codes.issue(user.id, purpose, hashed, at=self._clock())
        return Issued(user, code)

    async def _knows(self, user: User | None, password: str) -> bool:
        return await self.passwords.verify("" if user is None else user.password_hash, password)

    async def _rehash(self, user: User, password: str) -> None:
        if self.passwords.is_outdated(user.password_hash):
            fresh = await self.passwords.hash(password)
            await self.users.replace_hash(user.id, user.password_hash, fresh)

    async def _set_password(self, user: User, password: str, actor: str) -> User:
        hashed = await self.passwords.hash(password)
        changed = await self.users.set_password(
            user.id, hashed, epoch=user.password_epoch, at=self._clock(), actor=actor
        )
        self._forget()
        return changed

    async def _sign_in(self, user: User) -> SignedIn:
        # An owner whose only organisation is deleted may still come in, to restore it and nothing else.
        places = await self.users.memberships(user.id) or await self.users.owned_deleted(user.id)
        if not places:
            raise NoOrganisation("you belong to no organisation; ask for an invitation")
        now = self._clock()
        session = Session(
            id=new_id(),
            user=user.id,
            password_epoch=user.password_epoch,
            created_at=now,
            last_used_at=now,
            expires_at=now + ACCESS_MICROS + GRACE_MICROS,
        )
        await self.sessions.start(session)
        return await self._token(user, places[0], session.id)

    async def _token(self, user: User, place: Membership, session_id: bytes) -> SignedIn:
        text = await self.tokens.issue(
            TokenType.ACCESS, user.id, org=place.org_id, session=session_id, epoch=user.password_epoch
        )
        return SignedIn(text, user, place)

    async def _place(self, claims: Claims) -> Membership:
        user_id = claims.user
        for place in await self.users.memberships(user_id) or await self.users.owned_deleted(user_id):
            if place.org_id == claims.org:
                return place
        raise NotFound("no such organisation", field="organisation")

    async def _user(self, user_id: bytes) -> User:
        user = await self.users.find(user_id)
        if user is None:
            raise Unauthenticated("Unauthorized: this user is gone")
        return user

    async def _take(self, kind: str, subject: str, limit: Limit) -> None:
        """Count one use; nobody in particular (empty text) is not counted."""
        if not subject:
            return
        wait = await self._codes.take(
            kind, subject, most=limit.most, window_s=limit.window_s, at=self._clock()
        )
        if wait is not None:
            raise RateLimited("too many attempts; try again later", retry_after_s=wait)
