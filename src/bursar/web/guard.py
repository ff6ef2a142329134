"""The framework's side of access: a dependency that asks for one scope, or for a person.

    guard(Scope.READ)         whoever has the scope: key, person or operator
    guard.user                a person, by an access or a personal token, whatever the role
    guard.session             a person by an access token: for what concerns the session itself
    guard.owner               the organisation's owner, even of a deleted one: to delete and restore
    guard.operator            the operator alone
    guard.optional            the principal where a credential came, else None

A route that needs a principal says `principal: Annotated[Principal, Depends(guard(Scope.READ))]`;
one that says nothing is public.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from bursar.core.errors import Denied
from bursar.identity.keys import Scope
from bursar.identity.roles import Role
from bursar.web.bodies import lift_bound
from bursar.web.principal import Authenticator, Principal


class Guard:
    """Makes dependencies that resolve the principal and check what it may do."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def __call__(self, scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
        """Return a dependency giving the principal; 401 without one, 403 without `scope`."""

        async def principal(request: Request) -> Principal:
            found = await self._authenticator.principal(request.scope["headers"])
            found.require(scope)
            return _let_in(request, found)

        return principal

    async def user(self, request: Request) -> Principal:
        """Return the person who speaks; 401 without a credential, 403 for a key or the operator."""
        found = await self._authenticator.principal(request.scope["headers"])
        if not found.user:
            raise Denied("this needs a person: log in, or use a personal token")
        return _let_in(request, found)

    async def session(self, request: Request) -> Principal:
        """Return the person whose access token came; 403 for any other credential."""
        found = await self._authenticator.principal(request.scope["headers"])
        if not found.session:
            raise Denied("this needs a session: log in")
        return _let_in(request, found)

    async def owner(self, request: Request) -> Principal:
        """Return the owner who speaks, of a deleted organisation too; 403 for anybody but the operator."""
        headers = request.scope["headers"]
        found = await self._authenticator.principal(headers, may_be_deleted=True)
        if found.role is not Role.OWNER and not found.is_operator:
            raise Denied("only an owner of the organisation may do this")
        return _let_in(request, found)

    async def operator(self, request: Request) -> None:
        """Let only the operator's token pass; it needs no organisation to exist."""
        self._authenticator.require_operator(request.scope["headers"])

    async def optional(self, request: Request) -> Principal | None:
        """Return the principal where a credential came, None where none did."""
        if "authorization" in request.headers or "x-api-key" in request.headers:
            return await self._authenticator.principal(request.scope["headers"])
        return None


def _let_in(request: Request, found: Principal) -> Principal:
    lift_bound(request.scope)
    request.state.principal = found
    return found
