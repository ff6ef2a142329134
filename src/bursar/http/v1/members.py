"""/v1/organisations/{id}/members and /invitations: who belongs to an organisation, and as what.

An administrator of the organisation decides; giving and taking the role of owner is an owner's; what
concerns the whole person (password, disabling, tokens) is the operator's, because a person may belong to
several organisations.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from bursar.capture import checks
from bursar.core.errors import Denied, InvalidInput, NotFound
from bursar.core.ids import Org, id_from_text, text_from_id
from bursar.core.time import text_from_micros
from bursar.delivery import mail_texts
from bursar.delivery.mail import MailQueue
from bursar.directory.organisations import OrganisationStore
from bursar.identity.invitations import Invitation
from bursar.identity.keys import Scope
from bursar.identity.passwords import LENGTH_MAX
from bursar.identity.people import Decider, Invited, People
from bursar.identity.roles import Role, parse_role, scopes_of
from bursar.identity.users import EMAIL_LENGTH_MAX, Member
from bursar.web.guard import Guard
from bursar.web.principal import Principal

_OTHER_FIELDS = 2


class NewMember(BaseModel):
    """Somebody whose address the operator vouches for."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=EMAIL_LENGTH_MAX)
    password: str = Field(
        default="", max_length=LENGTH_MAX, description="Of a new user; a known one keeps its own."
    )
    role: str = Field(default="member", description="owner, admin, finance, member or viewer.")


class NewInvitation(BaseModel):
    """Whom to invite."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=EMAIL_LENGTH_MAX)
    role: str = Field(default="member", description="owner, admin, finance, member or viewer.")


class MemberChange(BaseModel):
    """What is to be different: one field at a time."""

    model_config = ConfigDict(extra="forbid")

    role: str | None = Field(default=None, description="owner, admin, finance, member or viewer.")
    disabled: bool | None = Field(default=None, description="Shut out of everything; the operator's alone.")
    password: str | None = Field(
        default=None, max_length=LENGTH_MAX, description="A new password; the operator's alone."
    )


class NewToken(BaseModel):
    """A personal token on somebody's behalf."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256)


class MemberRoutes:
    """What the routes share: the people, and which organisation a path means."""

    def __init__(
        self, people: People, organisations: OrganisationStore, mails: MailQueue, public_url: str
    ) -> None:
        self.people = people
        self._organisations = organisations
        self._mails = mails
        self._public_url = public_url

    async def post(self, invited: Invited) -> None:
        """Mail an invitation's code to the address that it is for."""
        made = invited.invitation
        name = (await self._organisations.get(made.org)).name
        self._mails.post(
            mail_texts.invitation(made.email, name, made.role.value, invited.code, self._public_url)
        )

    async def place(self, principal: Principal, text: str, scope: Scope) -> tuple[Org, Decider]:
        """Return the organisation of a path, and who decides in it.

        Raises:
            NotFound: The caller has nothing to do with it, or there is none.
            Denied: The caller lacks `scope` there.
        """
        wanted = id_from_text(text, field="organisation_id")
        if principal.is_operator:
            for organisation in await self._organisations.list():
                if organisation.id == wanted:
                    return organisation.org, Decider(principal.actor, None, is_operator=True)
        elif (await self._organisations.get(principal.org)).id == wanted:
            if principal.agent or principal.project:
                raise Denied("a key bound to an agent or a project has no say over people")
            principal.require(scope)
            return principal.org, Decider(principal.actor, principal.role)
        elif principal.user:
            return await self._other_place(principal, wanted, scope)
        raise NotFound("no such organisation", field="organisation_id")

    async def _other_place(self, principal: Principal, wanted: bytes, scope: Scope) -> tuple[Org, Decider]:
        for place in await self.people.memberships(principal.user):
            if place.org_id == wanted:
                there = principal._replace(org=place.org, role=place.role, scopes=scopes_of(place.role))
                there.require(scope)
                return place.org, Decider(principal.actor, place.role)
        raise NotFound("no such organisation", field="organisation_id")


def members_router(guard: Guard, routes: MemberRoutes) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/organisations/{organisation_id}", tags=["members"])
    # READ is what every role has; whether it is enough is decided for the organisation of the path.
    Caller = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.get("/members", operation_id="members_list")
    async def list_members(organisation_id: str, caller: Caller) -> dict[str, object]:
        """List the organisation's people, oldest first."""
        org, by = await routes.place(caller, organisation_id, Scope.READ)
        if by.role is Role.VIEWER or not (by.role or by.is_operator or Scope.ADMIN in caller.scopes):
            raise Denied("a viewer does not see who else is a member")
        found = await routes.people.members(org)
        return {"data": [member_body(one) for one in found], "has_more": False, "next_cursor": None}

    @router.post("/members", status_code=201, operation_id="members_add")
    async def add(organisation_id: str, body: NewMember, caller: Caller) -> dict[str, object]:
        """Make a user, verified at once, or a known one a member: the operator's alone."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        made = await routes.people.add_verified(org, body.email, body.password, parse_role(body.role), by=by)
        return member_body(made)

    @router.patch("/members/{user_id}", operation_id="members_change")
    async def change(
        organisation_id: str, user_id: str, body: MemberChange, caller: Caller
    ) -> dict[str, object]:
        """Change a member's role; the operator also disables people and sets passwords."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        return member_body(await _changed(routes.people, org, user_id, body, by))

    @router.delete("/members/{user_id}", status_code=204, operation_id="members_remove")
    async def remove(organisation_id: str, user_id: str, caller: Caller) -> Response:
        """Take a member out of the organisation, at once."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        await routes.people.remove(org, id_from_text(user_id, field="user_id"), by=by)
        return Response(status_code=204)

    @router.post("/members/{user_id}/tokens", status_code=201, operation_id="members_create_token")
    async def create_token(
        organisation_id: str, user_id: str, body: NewToken, caller: Caller
    ) -> dict[str, object]:
        """Make a personal token for a member; the operator's alone. Its text is shown only now."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        if not by.is_operator:
            raise Denied("only the operator may make a token for somebody else")
        member = await routes.people.member(org, id_from_text(user_id, field="user_id"))
        name = checks.name(body.name, "name")
        token, text = await routes.people.create_token(member.user.id, name, actor=by.actor)
        return {"id": text_from_id("tok", token.id), "name": token.name, "token": text}

    _add_invitations(router, routes, guard)
    return router


def _add_invitations(router: APIRouter, routes: MemberRoutes, guard: Guard) -> None:
    Caller = Annotated[Principal, Depends(guard(Scope.READ))]  # noqa: N806 - a type

    @router.post("/invitations", status_code=201, operation_id="invitations_create")
    async def invite(organisation_id: str, body: NewInvitation, caller: Caller) -> dict[str, object]:
        """Invite an address for seven days. The code goes there by mail; only the operator sees it here."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        made = await routes.people.invite(org, body.email, parse_role(body.role), by=by)
        await routes.post(made)
        # Whoever knows the code proves the address with it: an administrator could take somebody's place.
        return {**invitation_body(made.invitation), **({"code": made.code} if by.is_operator else {})}

    @router.get("/invitations", operation_id="invitations_list")
    async def list_invitations(organisation_id: str, caller: Caller) -> dict[str, object]:
        """List the invitations, oldest first; never their codes."""
        org, _ = await routes.place(caller, organisation_id, Scope.ADMIN)
        # One without an address is the link that the server printed for its first owner.
        found = [one for one in await routes.people.invitations.list(org) if one.email]
        return {"data": [invitation_body(one) for one in found], "has_more": False, "next_cursor": None}

    @router.delete("/invitations/{invitation_id}", status_code=204, operation_id="invitations_revoke")
    async def revoke(organisation_id: str, invitation_id: str, caller: Caller) -> Response:
        """Close an invitation."""
        org, by = await routes.place(caller, organisation_id, Scope.ADMIN)
        await routes.people.revoke_invitation(org, id_from_text(invitation_id, field="invitation_id"), by=by)
        return Response(status_code=204)


async def _changed(people: People, org: Org, user_text: str, body: MemberChange, by: Decider) -> Member:
    """Make the one change that `body` asks for: each is a commit of its own, so two could half succeed."""
    user_id = id_from_text(user_text, field="user_id")
    if [body.role, body.disabled, body.password].count(None) != _OTHER_FIELDS:
        raise InvalidInput("give one of role, disabled and password", field="role")
    if body.role is not None:
        return await people.set_role(org, user_id, parse_role(body.role), by=by)
    if body.disabled is not None:
        return await people.set_disabled(org, user_id, is_disabled=body.disabled, by=by)
    return await people.set_password(org, user_id, body.password or "", by=by)


def member_body(member: Member) -> dict[str, object]:
    """Return a member as the routes show it."""
    user = member.user
    return {
        "id": text_from_id("usr", user.id),
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "role": member.role.value,
        "joined_at": text_from_micros(member.joined_at),
        "verified": user.verified_at is not None,
        "disabled": user.disabled_at is not None,
    }


def invitation_body(made: Invitation) -> dict[str, object]:
    """Return an invitation as the routes show it."""
    return {
        "id": text_from_id("inv", made.id),
        "email": made.email,
        "role": made.role.value,
        "invited_by": made.inviter,
        "created_at": text_from_micros(made.created_at),
        "expires_at": text_from_micros(made.expires_at),
        "accepted_at": None if made.accepted_at is None else text_from_micros(made.accepted_at),
        "revoked_at": None if made.revoked_at is None else text_from_micros(made.revoked_at),
    }
