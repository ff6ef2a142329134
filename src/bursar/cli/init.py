"""`bursar init`: make an organisation, its first keys and, when told of one, its owner."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import write, write_json

if TYPE_CHECKING:
    from bursar.cli.connection import Connection
    from bursar.settings import Settings


class _Made(NamedTuple):
    org_id: str
    org: str
    zone: str
    data_dir: str
    ingest_key: str
    admin_key: str


class _Owner(NamedTuple):
    email: str
    password: str


def init(
    *,
    org: Annotated[
        str | None, typer.Option(envvar="BURSAR_ORG", help="Its name.", show_default="default")
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            envvar="BURSAR_ZONE",
            help="IANA time zone in which its days and months begin.",
            show_default="UTC",
        ),
    ] = None,
    email: Annotated[str | None, typer.Option(help="Address of its owner, who can log in at once.")] = None,
    password: Annotated[str | None, typer.Option(help="The owner's password, 8 characters or more.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an organisation with a key to send events and one to administer it; with --email, its owner."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`
    from bursar.cli.greeting import place_of  # noqa: PLC0415 - see `main`

    settings = load_settings(data_dir=data_dir, org=org, zone=zone)
    owner = _owner(email, password)
    made, token = _make(settings, owner)
    if as_json:
        extra = {} if owner is None else {"owner_email": owner.email, "owner_token": token}
        write_json({**made._asdict(), **extra})
        return
    write(f"Made the organisation {made.org!r} ({made.org_id}) in {place_of(settings)}.")
    write(f"  ingest key  {made.ingest_key}")
    write(f"  admin key   {made.admin_key}")
    if owner is not None:
        write(f"  owner       {owner.email}")
        write(f"  their token {token}")
    write("They are shown only now; only their hashes are stored.")


def _owner(email: str | None, password: str | None) -> _Owner | None:
    """Return the owner to make, checked before anything is made.

    Raises:
        Failure: One of the two without the other.
        InvalidInput: No address, or a password that is refused.
    """
    from bursar.identity.passwords import check_policy  # noqa: PLC0415 - see `main`
    from bursar.identity.users import normal_email  # noqa: PLC0415 - see `main`

    if email is None and password is None:
        return None
    if email is None or password is None:
        raise Failure("--email and --password belong together", ExitCode.USAGE)
    normal = normal_email(email)
    return _Owner(normal, check_policy(password, email=normal))


def _make(settings: "Settings", owner: _Owner | None) -> tuple[_Made, str]:
    """Make all of it; return what was made and the owner's token, empty without an owner."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(settings.data_dir, may_create=True) as connection:
        org_id = _organisation(connection, settings)
        connection.act_for(org_id)
        ingest, admin = (
            connection.post(
                "/v1/keys",
                {"name": f"first {name} key", "environment": "local", "scopes": scopes},
                kind=dict[str, object],
            )["raw_key"]
            # One key that records and reads is what a client of the four products expects.
            for name, scopes in (("ingest", ["ingest", "read"]), ("admin", ["admin"]))
        )
        token = "" if owner is None else _owner_token(connection, org_id, owner)
    data_dir = str(settings.data_dir.resolve())
    return _Made(org_id, settings.org, settings.zone, data_dir, str(ingest), str(admin)), token


def _organisation(connection: "Connection", settings: "Settings") -> str:
    try:
        made = connection.post(
            "/v1/organisations", {"name": settings.org, "zone": settings.zone}, kind=dict[str, object]
        )
    except Failure as failure:
        if "already exists" in failure.sentence:
            hint = f"`bursar keys create --org {settings.org}` makes a key for it; --org another one."
            raise Failure(failure.sentence, failure.exit_code, hint=hint) from None
        raise
    return str(made["id"])


def _owner_token(connection: "Connection", org_id: str, owner: _Owner) -> str:
    members = f"/v1/organisations/{org_id}/members"
    body = {"email": owner.email, "password": owner.password, "role": "owner"}
    made = connection.post(members, body, kind=dict[str, object])
    path = f"{members}/{made['id']}/tokens"
    return str(connection.post(path, {"name": "first token"}, kind=dict[str, object])["token"])
