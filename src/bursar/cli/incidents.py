"""`bursar incidents list|show|raise|keep`: limits that were reached, and what people decide.

Over /v1/incidents. Not here: the budgets themselves (`budgets`).
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bursar.cli.budget_answers import Scope, Window, scope_text
from bursar.cli.budget_views import amount_text
from bursar.cli.moments import instant_of, moment_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json
from bursar.cli.pages import Cursor, Limit, page_of

app = typer.Typer(help="Decide about budgets that reached their limit.", no_args_is_help=True)

IncidentId = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id (inc_…).")]
Note = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]


class Approval(msgspec.Struct, frozen=True):
    """One decision of a person."""

    at: str
    resolution: str
    actor: str | None
    note: str | None
    limit: Decimal | None
    until: str | None


class Incident(msgspec.Struct, frozen=True):
    """One crossing of a hard limit, and how it was decided; amounts in the budget's unit."""

    id: str
    budget_id: str
    budget: str | None
    scope: Scope
    window: Window | None
    opened_at: str
    amount: Decimal
    resolution: str
    actor: str | None
    note: str | None
    limit_before: Decimal | None
    until: str | None
    ended_at: str | None
    unit: str = ""
    approvals: list[Approval] = []

    @property
    def title(self) -> str:
        """Its budget's name, else whom that is for."""
        return self.budget or scope_text(self.scope)

    def text(self, amount: Decimal | None) -> str:
        """Return one of its amounts with the unit."""
        return "-" if amount is None else amount_text(amount, self.unit).rstrip()


@app.command("list")
def list_incidents(
    *,
    state: Annotated[str | None, typer.Option(help="Only open or only decided ones.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first: one for each time a hard limit was reached."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        page = page_of(connection, "/v1/incidents", {"state": state, "limit": limit, "cursor": cursor})
    if as_json:
        write_json(page)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        Column("opened"), Column("budget", is_wrapped=True),
        *(Column(name, is_number=True) for name in ("at", "limit now")),
        *map(Column, ("decision", "by")), Column("note", is_wrapped=True), Column("id"),
    ]  # fmt: skip
    write_table(columns, [_row(one) for one in page.of(Incident)], empty="no incidents")
    page.write_more()


@app.command()
def show(
    incident: IncidentId, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """Show one incident: its budget's window as it stands, and every decision about it."""
    from urllib.parse import quote  # noqa: PLC0415 - see `main`

    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        raw = connection.get(f"/v1/incidents/{quote(incident, safe='')}", kind=msgspec.Raw)
    if as_json:
        write_json(raw)
    else:
        _show(msgspec.json.decode(raw, type=Incident))


@app.command("raise")
def raise_limit(
    incident: IncidentId,
    *,
    limit: Annotated[str, typer.Option(help="The window's limit from now on; above what is spent.")],
    until: Annotated[
        str | None,
        typer.Option(help="Day (UTC) or instant at which the old limit comes back.", show_default="its end"),
    ] = None,
    note: Note = "",
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Raise the limit of the window that reached it, so that its calls go on."""
    body = {"limit": limit, "until": instant_of(until), "note": note}
    _decide(incident, "raise", body, data_dir, org, as_json=as_json)


@app.command()
def keep(
    incident: IncidentId,
    *,
    note: Note = "",
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Keep it stopped: the limit stays until its window ends."""
    _decide(incident, "keep", {"note": note}, data_dir, org, as_json=as_json)


def _decide(
    incident: str,
    verb: str,
    body: dict[str, str | None],
    data_dir: Path | None,
    org: str | None,
    *,
    as_json: bool,
) -> None:
    from urllib.parse import quote  # noqa: PLC0415 - see `main`

    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    said = {field: value for field, value in body.items() if value}
    with connect(data_dir, org) as connection:
        raw = connection.post(f"/v1/incidents/{quote(incident, safe='')}/{verb}", said, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
        return
    decided = msgspec.json.decode(raw, type=Incident)
    write(f"{decided.title}: {_decision(decided)}.")


def _decision(incident: Incident) -> str:
    """Return what was decided, with the limit that holds by it."""
    limit = None if incident.window is None else incident.window.limit
    words = {
        "raised": f"raised to {incident.text(limit)}",
        "raised_until": f"raised to {incident.text(limit)} until {moment_text(incident.until)}",
        "kept_stopped": "kept stopped",
    }
    if incident.resolution == "raised_until" and incident.ended_at is not None:
        return f"was raised until {moment_text(incident.ended_at)}"
    return words.get(incident.resolution, incident.resolution)


def _row(incident: Incident) -> list[str]:
    limit = None if incident.window is None else incident.window.limit
    return [
        moment_text(incident.opened_at, to_seconds=True), incident.title, incident.text(incident.amount),
        incident.text(limit), _decision(incident), incident.actor or "-", incident.note or "-", incident.id,
    ]  # fmt: skip


def _show(incident: Incident) -> None:
    write(f"{incident.id}  {_decision(incident)}")
    window = incident.window
    facts = {
        "budget": f"{incident.title} ({incident.budget_id})", "for": scope_text(incident.scope),
        "opened": moment_text(incident.opened_at, to_seconds=True), "at": incident.text(incident.amount),
    }  # fmt: skip
    if window is not None:
        facts |= {
            "limit": incident.text(window.limit), "spent": incident.text(window.settled),
            "held": incident.text(window.held), "left": incident.text(window.remaining),
            "resets": moment_text(window.resets_at),
        }  # fmt: skip
    for label, text in facts.items():
        write(f"  {label:<8} {text}")
    for one in incident.approvals:
        limit = f" to {incident.text(one.limit)}" if one.limit else ""
        until = f" until {moment_text(one.until)}" if one.until else ""
        note = f": {one.note}" if one.note else ""
        what = f"{one.resolution.replace('_until', '').replace('_', ' ')}{limit}{until}"
        write(f"  {moment_text(one.at, to_seconds=True)}  {what}, by {one.actor or 'nobody'}{note}")
