"""Roles of people, and what each may do.

A role gives scopes, the same ones that API keys carry, so that a route asks for one thing whoever speaks.
`admin` includes every other scope.

    role     scopes          beside that
    owner    admin           gives and takes the role of owner; deletes and restores the organisation
    admin    admin           –
    finance  read, budgets   budgets, incidents, prices; no keys, people or stops
    member   read            sees who else is a member
    viewer   read            –

Nobody ingests by role alone but owner and admin (by `admin`): usage is sent with API keys. An organisation
always keeps one owner (`ports.UserStore`).
"""

from enum import StrEnum

from bursar.core.errors import InvalidInput
from bursar.identity.keys import Scope


class Role(StrEnum):
    """What a person is in an organisation, highest first."""

    OWNER = "owner"
    ADMIN = "admin"
    FINANCE = "finance"
    MEMBER = "member"
    VIEWER = "viewer"


_SCOPES = {
    Role.OWNER: frozenset(Scope),
    Role.ADMIN: frozenset(Scope),
    Role.FINANCE: frozenset({Scope.READ, Scope.BUDGETS}),
    Role.MEMBER: frozenset({Scope.READ}),
    Role.VIEWER: frozenset({Scope.READ}),
}


def scopes_of(role: Role) -> frozenset[Scope]:
    """Return the scopes that `role` gives."""
    return _SCOPES[role]


def parse_role(text: str) -> Role:
    """Return the role that `text` names.

    Raises:
        InvalidInput: There is no such role.
    """
    try:
        return Role(text)
    except ValueError:
        raise InvalidInput(f"role must be one of {', '.join(Role)}", field="role") from None
