"""`bursar audit list|export`: who changed what, over /v1/audit."""

from typing import Annotated

import msgspec
import typer

from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json
from bursar.cli.pages import Cursor, Limit, page_of

app = typer.Typer(help="See and export who changed what.", no_args_is_help=True)

Actor = Annotated[str | None, typer.Option(help="Exactly who: operator, user:usr_… or key:key_….")]
Action = Annotated[str | None, typer.Option(help="Exactly which, or key.* for all of keys.")]
Since = Annotated[str | None, typer.Option("--from", help="From this instant on (RFC 3339).")]
Until = Annotated[str | None, typer.Option("--to", help="Before this instant (RFC 3339).")]


class _Entry(msgspec.Struct, frozen=True):
    at: str
    actor: str
    action: str
    target: str
    details: dict[str, object] | None


@app.command("list")
def list_entries(
    *,
    actor: Actor = None,
    action: Action = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List the latest changes, newest first."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {"actor": actor, "action": action, "from": since, "to": until, "limit": limit, "cursor": cursor}
    with connect(data_dir, org) as connection:
        page = page_of(connection, "/v1/audit", asked)
    if as_json:
        write_json(page)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [Column(name) for name in ("at", "who", "action", "target", "details")]
    write_table(columns, [_row(one) for one in page.of(_Entry)], empty="nothing was changed")
    page.write_more()


@app.command()
def export(
    *,
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    actor: Actor = None,
    action: Action = None,
    since: Since = None,
    until: Until = None,
    data_dir: DataDir = None,
    org: OrgName = None,
) -> None:
    """Write every change that fits to standard output, newest first."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {"format": form, "actor": actor, "action": action, "from": since, "to": until}
    with connect(data_dir, org) as connection:
        text = connection.text("/v1/audit/export", {name: value for name, value in asked.items() if value})
    write(text.rstrip("\r\n"))


def _row(one: _Entry) -> list[str]:
    details = "-" if one.details is None else msgspec.json.encode(one.details).decode()
    return [one.at[:19].replace("T", " "), one.actor, one.action, one.target, details]
