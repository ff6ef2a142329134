"""`bursar holds list|show|void`: room that calls set aside before they are made, over /v1/holds.

Not here: asking for a hold and settling it, which programs do over the API.
"""

from decimal import Decimal
from typing import Annotated

import msgspec
import typer

from bursar.cli.budget_answers import Hold, HoldWindow
from bursar.cli.budget_names import budget_id
from bursar.cli.budget_views import amount_text
from bursar.cli.figures import rate_text
from bursar.cli.moments import moment_text, seconds_until, span_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json
from bursar.cli.pages import Cursor, Limit, page_of

app = typer.Typer(help="See who holds room in the budgets, and give it back.", no_args_is_help=True)

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="Its id (hold_…).")]

_UNITS = {"cost": "USD", "calls": "calls", "duration": "ms", "loops": "loops", "depth": "levels"}


@app.command("list")
def list_holds(
    *,
    budget: Annotated[str | None, typer.Option(help="Only holds in this budget, by name or id.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only holds of this agent.")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only open, settled, voided, expired, suspense or settled_late ones."),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List holds, newest first: who, for which model, how much, until when."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        asked = {
            "budget": None if budget is None else budget_id(connection, budget),
            "agent": agent, "state": state, "limit": limit, "cursor": cursor,
        }  # fmt: skip
        page = page_of(connection, "/v1/holds", asked)
    if as_json:
        write_json(page)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        *map(Column, ("since", "agent", "model", "run", "state")),
        *(Column(name, is_number=True) for name in ("held", "spent")),
        Column("until"), Column("id"),
    ]  # fmt: skip
    write_table(columns, [_row(hold) for hold in page.of(Hold)], empty="no holds")
    page.write_more()


@app.command()
def show(hold: HoldId, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """Show one hold, and how each budget that it counts in stands."""
    from urllib.parse import quote  # noqa: PLC0415 - see `main`

    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        raw = connection.get(f"/v1/holds/{quote(hold, safe='')}", kind=msgspec.Raw)
    if as_json:
        write_json(raw)
    else:
        _show(msgspec.json.decode(raw, type=Hold))


@app.command()
def void(
    hold: HoldId,
    *,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "",
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Give a hold's room back. Only for a call that was surely never made or billed."""
    from urllib.parse import quote  # noqa: PLC0415 - see `main`

    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    body = {"reason": reason} if reason else {}
    with connect(data_dir, org) as connection:
        raw = connection.post(f"/v1/holds/{quote(hold, safe='')}/void", body, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
        return
    voided = msgspec.json.decode(raw, type=Hold)
    freed = _usd_text(voided.amount_usd)
    write(f"{voided.id} is {voided.state}: {freed} of {voided.agent or '-'} is free again.")


def _row(hold: Hold) -> list[str]:
    until = moment_text(hold.ended_at or hold.expires_at, to_seconds=True)
    spent = "-" if hold.settled_usd is None else rate_text(hold.settled_usd)
    return [
        moment_text(hold.created_at, to_seconds=True), hold.agent or "-", hold.model or "-", hold.run or "-",
        hold.state if hold.kind == "call" else f"{hold.state} {hold.kind}", _usd_text(hold.amount_usd),
        spent, until, hold.id,
    ]  # fmt: skip


def _usd_text(amount: Decimal | None) -> str:
    return "unpriced" if amount is None else rate_text(amount)


def _show(hold: Hold) -> None:
    write(f"{hold.id}  {hold.state}, a {hold.kind} of {hold.agent or '-'}")
    spent = None if hold.settled_usd is None else rate_text(hold.settled_usd)
    output = None if hold.max_output_tokens is None else f"{hold.max_output_tokens:,} tokens at most"
    facts = {
        "model": "/".join(name for name in (hold.provider, hold.model) if name), "project": hold.project,
        "user": hold.user, "run": hold.run, "held": _usd_text(hold.amount_usd), "spent": spent,
        "output": output, "since": moment_text(hold.created_at, to_seconds=True),
        "deadline": moment_text(hold.deadline_at, to_seconds=True), "lapses": _lapse(hold),
        "ended": moment_text(hold.ended_at, to_seconds=True) if hold.ended_at else None,
    }  # fmt: skip
    for label, text in facts.items():
        if text:
            write(f"  {label:<10} {text}")
    _show_windows(hold.windows)


def _lapse(hold: Hold) -> str | None:
    if hold.state != "open" or hold.expires_at is None:
        return None
    left = span_text(seconds_until(hold.expires_at))
    return f"{moment_text(hold.expires_at, to_seconds=True)}, in {left}"


def _show_windows(windows: list[HoldWindow]) -> None:
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    names = ("its part", "limit", "spent", "held", "left")
    columns = [Column("budget"), *(Column(name, is_number=True) for name in names), Column("resets")]
    rows = [
        [
            one.budget or one.budget_id,
            *(
                amount_text(amount, _UNITS.get(one.metric or "", "tokens"))
                for amount in (one.amount, one.limit, one.settled, one.held, one.remaining)
            ),
            moment_text(one.resets_at),
        ]
        for one in windows
    ]
    write_table(columns, rows, empty="It counts in no budget.")
