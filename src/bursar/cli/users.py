"""`bursar users list|invite|set-role|disable|enable|reset-password`: the people of an organisation."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write, write_json

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

app = typer.Typer(help="List and invite people, and change what they may do.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(metavar="USER", help="Their email or id (usr_…).")]
_ROLES = "owner, admin, finance, member or viewer."


class Member(msgspec.Struct, frozen=True):
    """A person as the members' routes describe it."""

    id: str
    email: str
    first_name: str
    last_name: str
    role: str
    joined_at: str
    verified: bool
    disabled: bool


class _Members(msgspec.Struct, frozen=True):
    data: list[Member]


class _Invitation(msgspec.Struct, frozen=True):
    id: str
    email: str
    role: str
    expires_at: str
    code: str


@app.command("list")
def list_users(*, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """List the people of an organisation, oldest first."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = connection.get(f"{_base(connection)}/members", kind=_Members)
    if as_json:
        write_json(found)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    names = ("email", "name", "role", "state", "since", "id")
    write_table([Column(name) for name in names], [_row(one) for one in found.data], empty="nobody yet")


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="Whom to invite.")],
    *,
    role: Annotated[str, typer.Option(help=_ROLES)] = "member",
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Invite an address for seven days. The code for the link is shown once."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        path = f"{_base(connection)}/invitations"
        made = connection.post(path, {"email": email, "role": role}, kind=_Invitation)
    if as_json:
        write_json(made)
        return
    say(f"Invited {made.email} as {made.role}, until {made.expires_at[:10]}; the code is shown only now:")
    write(made.code)


@app.command("set-role")
def set_role(
    user: Email,
    role: Annotated[str, typer.Argument(help=_ROLES)],
    *,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Change what somebody is in the organisation, at once."""
    after = _change(user, {"role": role}, data_dir, org)
    _tell(after, f"{after.email} is {after.role} now.", as_json=as_json)


@app.command()
def disable(user: Email, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """Shut somebody out of everything, at once."""
    after = _change(user, {"disabled": True}, data_dir, org)
    _tell(after, f"{after.email} is disabled.", as_json=as_json)


@app.command()
def enable(user: Email, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """Let somebody in again who was disabled."""
    after = _change(user, {"disabled": False}, data_dir, org)
    _tell(after, f"{after.email} may log in again.", as_json=as_json)


@app.command("reset-password")
def reset_password(
    user: Email,
    *,
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="The new one.")
    ],
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Set somebody's password; every session of theirs ends."""
    after = _change(user, {"password": password}, data_dir, org)
    _tell(after, f"{after.email} has a new password; all sessions have ended.", as_json=as_json)


def _change(user: str, body: dict[str, object], data_dir: DataDir, org: OrgName) -> Member:
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        base = _base(connection)
        found = _find(connection.get(f"{base}/members", kind=_Members).data, user)
        return connection.call("PATCH", f"{base}/members/{found.id}", body=body, kind=Member)


def _base(connection: "Connection") -> str:
    from bursar.cli.orgs import find_org  # noqa: PLC0415 - see `main`

    is_said = "org" in connection.settings.model_fields_set
    return f"/v1/organisations/{find_org(connection, connection.settings.org if is_said else None).id}"


def _find(members: list[Member], wanted: str) -> Member:
    for member in members:
        if wanted.strip().lower() in {member.id, member.email}:
            return member
    raise Failure(
        f"there is no user {wanted!r} here", ExitCode.NOT_FOUND, hint="`bursar users list` shows them."
    )


def _tell(after: Member, sentence: str, *, as_json: bool) -> None:
    if as_json:
        write_json(after)
    else:
        write(sentence)


def _row(one: Member) -> list[str]:
    state = "disabled" if one.disabled else "active" if one.verified else "unverified"
    name = f"{one.first_name} {one.last_name}".strip() or "-"
    return [one.email, name, one.role, state, one.joined_at[:10], one.id]
