"""`bursar report`: what calls cost, grouped and filtered, over GET /v1/costs."""

import csv
import io
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
import typer

from bursar.cli.figures import BAR_CELLS, bar, count_text, money_decimals, money_text, share_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write

TIMES = ("hour", "day", "week", "month")
NONE = "(none)"


class Sums(msgspec.Struct, frozen=True, rename="camel"):
    """The figures of one group; cached tokens are within `input_tokens`, reasoning within `output_tokens`."""

    requests: int
    input_tokens: int
    output_tokens: int
    total_cost: Decimal
    avg_latency_ms: int
    unpriced_requests: int
    unpriced_tokens: int
    errors: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    media_tokens: int
    web_searches: int


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """What was asked, and the total of every row, shown or not."""

    from_text: str = msgspec.field(name="from")
    to_text: str = msgspec.field(name="to")
    zone: str
    group_by: list[str]
    has_more: bool
    total: Sums


class Costs(msgspec.Struct, frozen=True):
    """The answer of /v1/costs; each row holds its names and its figures."""

    data: list[dict[str, object]]
    meta: Meta


class Group(NamedTuple):
    """One row: its names in the order asked for, its figures."""

    names: list[str]
    sums: Sums


def report(
    *,
    by: Annotated[
        str,
        typer.Option(
            help="Up to three of model, provider, project, feature, agent, user, run, billing, and one of "
            "hour, day, week, month; comma-separated."
        ),
    ] = "model",
    from_: Annotated[
        str | None,
        typer.Option("--from", help="First day (2026-03-01) or instant.", show_default="30 days back"),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Last day, included, or the instant it ends.", show_default="today"),
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="IANA zone in which days begin.", show_default="the organisation's")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    feature: Annotated[str | None, typer.Option(help="Only this feature.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    billing: Annotated[str | None, typer.Option(help="Only metered or subscription.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 100,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every digit.")] = False,
) -> None:
    """Show what calls cost: by model, agent, day or any other grouping."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {
        "groupBy": by, "from": from_, "to": to, "zone": tz, "limit": limit, "model": model,
        "provider": provider, "project": project, "feature": feature, "agent": agent, "user": user,
        "run": run, "billing": billing,
    }  # fmt: skip
    with connect(data_dir, org) as connection:
        raw = connection.text(
            "/v1/costs", {name: value for name, value in asked.items() if value is not None}
        )
    costs = msgspec.json.Decoder(Costs, float_hook=Decimal).decode(raw)
    if as_json:
        write(msgspec.json.format(raw, indent=2))
    elif as_csv:
        write(_csv(costs).rstrip("\n"))
    else:
        _show(costs)


def _groups(costs: Costs) -> list[Group]:
    """Return the rows as the server ranked them, or in the order of time where they have one."""
    names = costs.meta.group_by
    groups = [
        Group([_name(row.get(name), name) for name in names], msgspec.convert(row, Sums))
        for row in costs.data
    ]
    when = next((index for index, name in enumerate(names) if name in TIMES), None)
    if when is not None:
        groups.sort(key=lambda group: group.names[when])
    return groups


def _name(value: object, dim: str) -> str:
    if dim == "hour" and isinstance(value, str):
        return value[:16].replace("T", " ")
    return str(value or NONE)


def _csv(costs: Costs) -> str:
    fields = [field.name for field in msgspec.structs.fields(Sums) if field.name != "total_cost"]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*costs.meta.group_by, "cost_usd", *fields])
    for group in _groups(costs):
        figures = [getattr(group.sums, name) for name in fields]
        table.writerow([*group.names, f"{group.sums.total_cost:f}", *figures])
    return file.getvalue()


def _show(costs: Costs) -> None:
    meta = costs.meta
    said = f"{meta.from_text} to {meta.to_text}, {meta.zone}"
    if not costs.data:
        say(f"No calls from {said}. Another range: --from and --to, as days such as 2026-03-01.")
        return
    from bursar.cli.tables import Column, console, room_for_bars, write_table  # noqa: PLC0415 - see `main`

    groups = _groups(costs)
    shown = [column for column in _COLUMNS if column.is_needed(meta.total)]
    money = [group.sums.total_cost for group in groups]
    decimals = money_decimals([*money, meta.total.total_cost])
    largest = max(money)
    whole = meta.total.total_cost
    columns = [
        *map(Column, meta.group_by),
        *(Column(column.heading, is_number=True) for column in shown),
        Column("cost", is_number=True, style="bold"),
        Column("share", is_number=True),
    ]
    rows = [
        [
            *group.names,
            *(count_text(column.value(group.sums)) for column in shown),
            _cost_text(group.sums, decimals),
            share_text(group.sums.total_cost, whole),
        ]
        for group in groups
    ]
    cells = room_for_bars(columns, rows, BAR_CELLS)
    if cells:
        columns.append(Column("", style="cyan", is_cut=True))
        rows = [
            [*row, bar(group.sums.total_cost, largest, cells)]
            for row, group in zip(rows, groups, strict=True)
        ]
    totals = ["total", *[""] * (len(meta.group_by) - 1)]
    totals += [count_text(column.value(meta.total)) for column in shown]
    write(f"Cost by {', '.join(meta.group_by)}: {said}")
    write_table(columns, rows, totals=[*totals, _cost_text(meta.total, decimals), *[""] * (1 + bool(cells))])
    if meta.has_more:
        write(f"More rows follow; the total counts them all. --limit shows more than {len(rows)}.")
    if meta.total.unpriced_requests:
        console().print(_unpriced(meta.total), style="bold red", highlight=False, markup=False)
        write("What to do: `bursar models unpriced` lists the models, `bursar prices set` gives one a price,")
        write("and `bursar models reprice --unpriced` applies it to what is recorded already.")


def _cost_text(sums: Sums, decimals: int) -> str:
    """Return the cost; what has no price at all says so, a sum that lacks some calls has a `+`."""
    if sums.unpriced_requests and not sums.total_cost:
        return "unpriced"
    return money_text(sums.total_cost, decimals) + ("+" if sums.unpriced_requests else "")


def _unpriced(total: Sums) -> str:
    requests, tokens = count_text(total.unpriced_requests), count_text(total.unpriced_tokens)
    return f"UNPRICED: {requests} requests with {tokens} tokens have no known price and are in no cost above."


class _Figure(NamedTuple):
    """A column of counts; an optional one is shown only where there is something in it."""

    heading: str
    field: str
    is_optional: bool = True

    def value(self, sums: Sums) -> int:
        return int(getattr(sums, self.field))

    def is_needed(self, total: Sums) -> bool:
        return not self.is_optional or self.value(total) > 0


_COLUMNS = (
    _Figure("requests", "requests", is_optional=False),
    _Figure("errors", "errors"),
    _Figure("input", "input_tokens", is_optional=False),
    _Figure("of it cached", "cache_read_tokens"),
    _Figure("output", "output_tokens", is_optional=False),
    _Figure("of it reasoning", "reasoning_tokens"),
    _Figure("audio, image", "media_tokens"),
    _Figure("searches", "web_searches"),
    _Figure("unpriced", "unpriced_requests"),
)
