"""`bursar events list|show|set-aside`: the calls behind a figure, over /v1/events and /v1/quarantine."""

from decimal import Decimal
from typing import Annotated

import msgspec
import typer

from bursar.cli.figures import count_text, rate_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write

app = typer.Typer(help="Look at single calls.", no_args_is_help=True)


class Event(msgspec.Struct, frozen=True):
    """One event as /v1/events gives it, as far as a table shows it."""

    id: str
    occurred_at: str
    agent: str | None
    model: str | None
    status: str
    usage: dict[str, int]
    cost_usd: str | None
    cost_basis: str


class _Page(msgspec.Struct, frozen=True):
    data: list[Event]
    has_more: bool
    next_cursor: str | None


class _Line(msgspec.Struct, frozen=True):
    unit: str
    units: int
    usd_per_million: Decimal
    from_context_tokens: int
    amount_usd: Decimal


class _Price(msgspec.Struct, frozen=True):
    card: str
    provider: str
    model: str
    origin: str
    lines: list[_Line]
    computed_cost_usd: str | None


class _Step(msgspec.Struct, frozen=True):
    seq: int | None
    kind: str
    reason: str | None
    cost_usd: str | None


class _History(Event, frozen=True):
    """One event with its price and its entries."""

    price: _Price | None
    entries: list[_Step]
    reported_cost_usd: str | None


@app.command("list")
def list_events(
    *,
    from_: Annotated[str | None, typer.Option("--from", help="First day or instant.")] = None,
    to: Annotated[str | None, typer.Option(help="Last day, included, or the instant it ends.")] = None,
    tz: Annotated[str | None, typer.Option(help="IANA zone in which days begin.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most events.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List calls, newest first."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {
        "from": from_, "to": to, "zone": tz, "agent": agent, "model": model, "run": run,
        "project": project, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    with connect(data_dir, org) as connection:
        raw = connection.text(
            "/v1/events", {name: value for name, value in asked.items() if value is not None}
        )
    if as_json:
        write(msgspec.json.format(raw, indent=2))
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    page = msgspec.json.decode(raw, type=_Page)
    columns = [
        *map(Column, ("time", "agent", "model", "status")),
        *(Column(name, is_number=True) for name in ("input", "output", "cost")),
        Column("id"),
    ]
    write_table(columns, [_row(event) for event in page.data], empty="no calls")
    if page.has_more:
        write(f"More: --cursor {page.next_cursor}")


@app.command()
def show(
    event: Annotated[str, typer.Argument(help="Its id (evt_…), or the key it was sent with.")],
    *,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Show one call: its figures, how its price came about, and every entry it made."""
    from urllib.parse import quote  # noqa: PLC0415 - see `main`

    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        raw = connection.text(f"/v1/events/{quote(event, safe='')}")
    if as_json:
        write(msgspec.json.format(raw, indent=2))
    else:
        _show(msgspec.json.Decoder(_History, strict=False, float_hook=Decimal).decode(raw))


class _SetAside(msgspec.Struct, frozen=True):
    id: str
    received_at: str
    reason: str
    event: dict[str, object]


class _Quarantine(msgspec.Struct, frozen=True):
    data: list[_SetAside]
    next_cursor: int | None


@app.command("set-aside")
def set_aside(
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most events.")] = 20,
    cursor: Annotated[int | None, typer.Option(help="Where the page before ended.")] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List calls that could not be posted and are in no total, with the reason."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
    with connect(data_dir, org) as connection:
        raw = connection.text("/v1/quarantine", asked)
    if as_json:
        write(msgspec.json.format(raw, indent=2))
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    page = msgspec.json.decode(raw, type=_Quarantine)
    rows = [
        [
            one.received_at[:19].replace("T", " "),
            *(str(one.event.get(name) or "-") for name in _NAMED),
            one.reason,
        ]
        for one in page.data
    ]
    columns = [*map(Column, ("received", *_NAMED)), Column("reason", is_wrapped=True)]
    write_table(columns, rows, empty="nothing was set aside")
    if page.next_cursor is not None:
        write(f"More: --cursor {page.next_cursor}")


_NAMED = ("agent", "model", "cost_usd")


def _row(event: Event) -> list[str]:
    sent = sum(count for name, count in event.usage.items() if _is_input(name))
    answered = sum(count for name, count in event.usage.items() if not _is_input(name) and "tokens" in name)
    cost = "unpriced" if event.cost_usd is None else f"${event.cost_usd}"
    when = event.occurred_at[:19].replace("T", " ")
    return [
        when,
        event.agent or "-",
        event.model or "-",
        event.status,
        count_text(sent),
        count_text(answered),
        cost,
        event.id,
    ]


def _is_input(name: str) -> bool:
    return name.startswith(("input", "cache"))


def _show(event: _History) -> None:
    cost = "unpriced: no known price" if event.cost_usd is None else f"${event.cost_usd} ({event.cost_basis})"
    write(f"{event.id}  {event.occurred_at}")
    write(f"  {event.agent} called {event.model}: {event.status}")
    for name, count in event.usage.items():
        if count:
            write(f"  {name:<22} {count_text(count):>14}")
    write(f"  cost  {cost}")
    if event.reported_cost_usd is not None:
        write(f"  reported  ${event.reported_cost_usd}")
    if event.price is not None:
        _show_price(event.price)
    for step in event.entries:
        said = "unpriced" if step.cost_usd is None else f"${step.cost_usd}"
        write(f"  entry {step.seq or ''} {step.kind} {step.reason or ''} {said}".rstrip())


def _show_price(price: _Price) -> None:
    write(f"  price  {price.provider}/{price.model}, card {price.card}, from {price.origin}")
    for line in price.lines:
        tier = f" (context above {count_text(line.from_context_tokens)})" if line.from_context_tokens else ""
        factor = f"{count_text(line.units)} × {rate_text(line.usd_per_million)} / million{tier}"
        write(f"    {line.unit:<22} {factor} = ${line.amount_usd:f}")
