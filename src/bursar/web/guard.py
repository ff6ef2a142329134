"""The framework's side of access: a dependency that asks for one scope.

A route that needs a principal says `principal: Annotated[Principal, Depends(guard(Scope.READ))]`;
one that says nothing is public.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from bursar.identity.keys import Scope
from bursar.web.bodies import lift_bound
from bursar.web.principal import Authenticator, Principal


class Guard:
    """Makes dependencies that resolve the principal and check its scope."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def __call__(self, scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
        """Return a dependency giving the principal; 401 without one, 403 without `scope`."""

        async def principal(request: Request) -> Principal:
            found = await self._authenticator.principal(request.scope["headers"])
            found.require(scope)
            lift_bound(request.scope)
            request.state.principal = found
            return found

        return principal

    async def operator(self, request: Request) -> None:
        """Let only the operator's token pass; it needs no organisation to exist."""
        self._authenticator.require_operator(request.scope["headers"])

    async def optional(self, request: Request) -> Principal | None:
        """Return the principal where a credential came, None where none did."""
        if "authorization" in request.headers or "x-api-key" in request.headers:
            return await self._authenticator.principal(request.scope["headers"])
        return None
