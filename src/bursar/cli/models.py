"""`bursar models list|unpriced|reprice`: what models cost, which have no price, pricing them later."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.figures import count_text, rate_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write, write_json
from bursar.core.money import nusd_from_text, text_from_nusd

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

app = typer.Typer(help="See what models cost, and price what had no price.", no_args_is_help=True)

Provider = Annotated[str | None, typer.Option(help="Only this provider.")]


class _Model(msgspec.Struct, frozen=True, rename="camel"):
    model: str
    provider: str
    input_price_per_million: Decimal | None
    output_price_per_million: Decimal | None
    cache_read_price_per_million: Decimal | None
    cache_write_price_per_million: Decimal | None
    has_context_tiers: bool
    context_window: int | None


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


class Unpriced(msgspec.Struct, frozen=True):
    """A model with usage that has no cost, and how it gets one."""

    provider: str
    model: str
    requests: int
    tokens: int
    first_at: str
    last_at: str
    what_to_do: str


class UnpricedList(msgspec.Struct, frozen=True):
    """The answer of /v1/models/unpriced."""

    data: list[Unpriced]
    has_more: bool


class _Repriced(msgspec.Struct):
    """What one or several calls of /v1/models/reprice did."""

    events: int
    repriced: int
    still_unpriced: int
    refused: int
    cost_added_usd: str
    dry_run: bool
    next_cursor: str | None = None

    def with_next(self, following: "_Repriced") -> "_Repriced":
        added = nusd_from_text(self.cost_added_usd) + nusd_from_text(following.cost_added_usd)
        return _Repriced(
            self.events + following.events,
            self.repriced + following.repriced,
            self.still_unpriced + following.still_unpriced,
            self.refused + following.refused,
            text_from_nusd(added),
            self.dry_run,
            following.next_cursor,
        )


@app.command("list")
def list_models(
    search: Annotated[str, typer.Argument(help="Only models with this in their name.")] = "",
    *,
    provider: Provider = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List models with their present prices, your own included, US dollars per million tokens."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = connection.get("/v1/models", kind=_Models).data
    shown = [
        model
        for model in found
        if search.lower() in model.model.lower() and provider in {None, model.provider}
    ]
    if as_json:
        write_json({"data": shown})
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        Column("provider"),
        Column("model"),
        *(
            Column(name, is_number=True)
            for name in ("input", "output", "cache read", "cache write", "context")
        ),
    ]
    write_table(columns, [_row(model) for model in shown], empty="no such model on the price list")


@app.command()
def unpriced(*, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """List models with usage that has no cost, and what to do about each."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = connection.get("/v1/models/unpriced", {"limit": 1000}, kind=UnpricedList)
    if as_json:
        write_json(found)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        Column("provider"),
        Column("model"),
        Column("requests", is_number=True),
        Column("tokens", is_number=True),
        Column("first"),
        Column("last"),
    ]
    rows = [
        [
            one.provider or "-",
            one.model,
            count_text(one.requests),
            count_text(one.tokens),
            one.first_at[:10],
            one.last_at[:10],
        ]
        for one in found.data
    ]
    write_table(columns, rows, empty="Every call has a price.")
    for one in found.data:
        write(f"{one.model}: {one.what_to_do}")
    if found.data:
        write("On the command line: `bursar prices set`, then `bursar models reprice --unpriced`.")


@app.command()
def reprice(
    *,
    only_unpriced: Annotated[
        bool, typer.Option("--unpriced", help="Required: what has a price is never changed.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Only this model, as it was sent.")] = None,
    provider: Provider = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")
    ] = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Give unpriced usage the price that is known now, by new entries."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    if not only_unpriced:
        raise Failure(
            "only usage without a price can be priced later",
            ExitCode.USAGE,
            hint="Say so: `bursar models reprice --unpriced`.",
        )
    with connect(data_dir, org) as connection:
        done = _reprice(connection, {"model": model, "provider": provider, "dry_run": dry_run})
    if as_json:
        document = msgspec.to_builtins(done)
        del document["next_cursor"]
        write_json(document)
        return
    verb = "Would price" if dry_run else "Priced"
    write(
        f"{verb} {count_text(done.repriced)} of {count_text(done.events)} calls: ${done.cost_added_usd} more."
    )
    if done.still_unpriced:
        say(f"{count_text(done.still_unpriced)} stay unpriced; `bursar models unpriced` says why.")
    if done.refused:
        say(f"{count_text(done.refused)} were refused: a total would leave 64 bits.")


def _reprice(connection: "Connection", form: dict[str, object]) -> _Repriced:
    """Go through the whole list, one bounded call after the other."""
    done = connection.post("/v1/models/reprice", form, kind=_Repriced)
    while done.next_cursor is not None:
        following = {**form, "cursor": done.next_cursor}
        done = done.with_next(connection.post("/v1/models/reprice", following, kind=_Repriced))
    return done


def _row(model: _Model) -> list[str]:
    prices = (
        model.input_price_per_million,
        model.output_price_per_million,
        model.cache_read_price_per_million,
        model.cache_write_price_per_million,
    )
    shown = ["-" if price is None else rate_text(price) for price in prices]
    if model.has_context_tiers:
        shown[0] += "+"
    context = "-" if model.context_window is None else count_text(model.context_window)
    return [model.provider, model.model, *shown, context]
