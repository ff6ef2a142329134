"""`bursar init`: make an organisation and its first keys."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bursar.cli.failures import Failure
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import write, write_json

if TYPE_CHECKING:
    from bursar.settings import Settings


class _Made(NamedTuple):
    org_id: str
    org: str
    zone: str
    data_dir: str
    ingest_key: str
    admin_key: str


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
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an organisation with a key to send events and one to administer it."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`

    settings = load_settings(data_dir=data_dir, org=org, zone=zone)
    made = _make(settings)
    if as_json:
        write_json(made._asdict())
        return
    write(f"Made the organisation {made.org!r} ({made.org_id}) in {made.data_dir}.")
    write(f"  ingest key  {made.ingest_key}")
    write(f"  admin key   {made.admin_key}")
    write("They are shown only now; only their hashes are stored.")


def _make(settings: "Settings") -> _Made:
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(settings.data_dir, may_create=True) as connection:
        try:
            organisation = connection.post(
                "/v1/organisations", {"name": settings.org, "zone": settings.zone}, kind=dict[str, str]
            )
        except Failure as failure:
            if "already exists" in failure.sentence:
                hint = f"`bursar keys create --org {settings.org}` makes a key for it; --org another one."
                raise Failure(failure.sentence, failure.exit_code, hint=hint) from None
            raise
        connection.act_for(organisation["id"])
        ingest, admin = (
            connection.post(
                "/v1/keys",
                {"name": f"first {name} key", "environment": "local", "scopes": scopes},
                kind=dict[str, object],
            )["raw_key"]
            # One key that records and reads is what a client of the four products expects.
            for name, scopes in (("ingest", ["ingest", "read"]), ("admin", ["admin"]))
        )
    data_dir = str(settings.data_dir.resolve())
    return _Made(organisation["id"], settings.org, settings.zone, data_dir, str(ingest), str(admin))
