"""`bursar orgs list|set|delete|restore`: the organisations of this installation, over /v1/organisations."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import write, write_json

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

app = typer.Typer(help="List, change, delete and restore organisations.", no_args_is_help=True)

Org = Annotated[str, typer.Argument(metavar="ORG", help="Its name or id (org_…).")]
Quota = Annotated[int | None, typer.Option(min=0, help="0 is no limit.")]


class Organisation(msgspec.Struct, frozen=True):
    """An organisation as /v1/organisations describes it."""

    id: str
    name: str
    zone: str
    currency: str
    cost_basis: str
    created_at: str
    deleted_at: str | None
    subscription_status: str
    plan: str
    events_per_day: int | None
    burst_per_s: int | None
    max_agents: int | None


class _Organisations(msgspec.Struct, frozen=True):
    data: list[Organisation]


@app.command("list")
def list_orgs(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the organisations, oldest first, deleted ones too."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        found = connection.get("/v1/organisations", kind=_Organisations)
    if as_json:
        write_json(found)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    names = ("name", "zone", "state", "plan", "events/day", "burst/s", "agents", "id")
    write_table([Column(name) for name in names], [_row(one) for one in found.data], empty="none yet")


@app.command("set")
def set_org(
    org: Org,
    *,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of its days and months.")] = None,
    status: Annotated[str | None, typer.Option(help="active, paused or cancelled.")] = None,
    plan: Annotated[str | None, typer.Option(help="What its plan is called.")] = None,
    events_per_day: Quota = None,
    burst_per_s: Quota = None,
    max_agents: Quota = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change an organisation: its name, zone, subscription, plan or quotas."""
    plain = {"name": name, "zone": timezone, "subscription_status": status, "plan": plan}
    quotas = {"events_per_day": events_per_day, "burst_per_s": burst_per_s, "max_agents": max_agents}
    body: dict[str, object] = {key: value for key, value in plain.items() if value is not None}
    body |= {key: value or None for key, value in quotas.items() if value is not None}
    if not body:
        raise Failure("nothing to change", ExitCode.USAGE, hint="`bursar orgs set --help` lists what can be.")
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        path = f"/v1/organisations/{find_org(connection, org).id}"
        after = connection.call("PATCH", path, body=body, kind=Organisation)
    _tell(after, "Changed", as_json=as_json)


@app.command()
def delete(org: Org, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Delete an organisation softly: keys and people are refused at once, every row stays."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        path = f"/v1/organisations/{find_org(connection, org).id}"
        after = connection.call("DELETE", path, kind=Organisation)
    _tell(after, "Deleted", as_json=as_json)


@app.command()
def restore(org: Org, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Undo a deletion."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        path = f"/v1/organisations/{find_org(connection, org).id}/restore"
        after = connection.post(path, None, kind=Organisation)
    _tell(after, "Restored", as_json=as_json)


def find_org(connection: "Connection", wanted: str | None) -> Organisation:
    """Return the organisation of that name or id; None means the first that is not deleted.

    Raises:
        Failure: There is none.
    """
    for one in connection.get("/v1/organisations", kind=_Organisations).data:
        if wanted in {one.id, one.name} or (wanted is None and one.deleted_at is None):
            return one
    raise Failure(
        f"there is no organisation {wanted!r}", ExitCode.NOT_FOUND, hint="`bursar orgs list` shows them."
    )


def _tell(after: Organisation, verb: str, *, as_json: bool) -> None:
    if as_json:
        write_json(after)
    else:
        write(f"{verb} {after.name!r} ({after.id}): {_state(after)}, plan {after.plan}.")


def _state(one: Organisation) -> str:
    return "deleted" if one.deleted_at else one.subscription_status


def _row(one: Organisation) -> list[str]:
    quotas = [one.events_per_day, one.burst_per_s, one.max_agents]
    shown = ["-" if quota is None else f"{quota:,}" for quota in quotas]
    return [one.name, one.zone, _state(one), one.plan, *shown, one.id]
