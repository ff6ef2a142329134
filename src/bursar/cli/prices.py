"""`bursar prices list|set|import|end|explain`: your own prices, and why a call costs what it costs."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write, write_json

app = typer.Typer(help="Set your own prices, and see how a price comes about.", no_args_is_help=True)

PAGE = 1_000
SKIPPED_SHOWN = 10
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

ValidFrom = Annotated[
    str | None,
    typer.Option("--from", help="First day (UTC) or instant of usage, or always.", show_default="now"),
]
ValidTo = Annotated[
    str | None, typer.Option("--to", help="Day (UTC) or instant from which it holds no longer.")
]
Rates = Annotated[
    list[str] | None,
    typer.Option("--rate", metavar="UNIT=USD", help="A further unit, such as cache_write_1h_tokens=6."),
]


class Price(msgspec.Struct, frozen=True):
    """One price of the organisation's own, as /v1/prices gives it."""

    id: str
    pattern: str
    state: str
    valid_from: str
    valid_to: str | None
    per_million: dict[str, str] | None
    context_tiers: list[dict[str, object]]
    percent: str | None
    service_tier: str | None
    note: str


class _Page(msgspec.Struct, frozen=True):
    data: list[Price]
    next_cursor: str | None


class _Imported(msgspec.Struct, frozen=True):
    imported: int
    models: int
    dry_run: bool
    skipped: list[dict[str, str]]


@app.command("list")
def list_prices(*, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """List your own prices, ended ones too."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    found: list[Price] = []
    with connect(data_dir, org) as connection:
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
            page = connection.get("/v1/prices", params, kind=_Page)
            found += page.data
            cursor = page.next_cursor
    if as_json:
        write_json({"data": found})
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [
        Column(name) for name in ("pattern", "price per million", "tier", "from", "to", "state", "note", "id")
    ]
    write_table(columns, [_row(price) for price in found], empty="no prices of your own: list prices hold")


@app.command("set")
def set_price(
    pattern: Annotated[str, typer.Argument(help="gpt-4o, openai/gpt-4o or openai/gpt-4*.")],
    *,
    input_usd: Annotated[
        str | None, typer.Option("--input", metavar="USD", help="For a million input tokens.")
    ] = None,
    output_usd: Annotated[
        str | None, typer.Option("--output", metavar="USD", help="For a million output tokens.")
    ] = None,
    cache_read_usd: Annotated[
        str | None, typer.Option("--cache-read", metavar="USD", help="For a million cached input tokens.")
    ] = None,
    rate: Rates = None,
    percent: Annotated[
        str | None, typer.Option(help="Change every list price instead: -15 is 15 % off.")
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="Only this service tier: standard, batch, flex or priority.")
    ] = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    note: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "",
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Set a price for usage from a moment on; what is recorded already keeps its price."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    named = (
        ("input_tokens", input_usd),
        ("output_tokens", output_usd),
        ("cache_read_tokens", cache_read_usd),
    )
    per_million = {unit: usd for unit, usd in named if usd is not None} | _rates(rate or [])
    body = {
        "pattern": pattern, "per_million": per_million or None, "percent": percent, "service_tier": tier,
        "valid_from": _instant(valid_from), "valid_to": _instant(valid_to), "note": note,
    }  # fmt: skip
    with connect(data_dir, org) as connection:
        made = connection.post("/v1/prices", body, kind=Price)
    if as_json:
        write_json(made)
    else:
        until = f" to {made.valid_to}" if made.valid_to else ""
        write(
            f"{made.id}: {made.pattern} is {_price_text(made)} from {made.valid_from}{until} ({made.state})."
        )


@app.command("import")
def import_prices(
    file: Annotated[Path, typer.Argument(help="A price file in LiteLLM's JSON format.", exists=True)],
    *,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be imported.")] = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Take over a whole price file; what could not be taken is told with its reason."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    asked = {
        "valid_from": _instant(valid_from),
        "valid_to": _instant(valid_to),
        "dry_run": "true" if dry_run else None,
    }
    params = {name: value for name, value in asked.items() if value is not None}
    body = msgspec.Raw(file.read_bytes())
    with connect(data_dir, org) as connection:
        done = connection.call("POST", "/v1/prices/import", params=params, body=body, kind=_Imported)
    if as_json:
        write_json(done)
        return
    verb = "Would take over" if dry_run else "Took over"
    write(f"{verb} {done.imported} prices of {done.models} models; {len(done.skipped)} were left out.")
    for one in done.skipped[:SKIPPED_SHOWN]:
        say("  " + ": ".join(one.values()))
    if len(done.skipped) > SKIPPED_SHOWN:
        say("  … and more; --json tells them all.")


@app.command()
def end(
    price: Annotated[str, typer.Argument(help="Its id (prc_…), from `bursar prices list`.")],
    *,
    valid_to: ValidTo = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """End a price, now or at a given time. It stays in the list."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        ended = connection.post(f"/v1/prices/{price}/end", {"valid_to": _instant(valid_to)}, kind=Price)
    if as_json:
        write_json(ended)
    else:
        write(f"{ended.pattern} ends at {ended.valid_to}.")


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The model as a client sends it: gpt-4o, openai/gpt-4o.")],
    *,
    provider: Annotated[str, typer.Option(help="Its provider, where the name does not say.")] = "",
    at: Annotated[
        str | None, typer.Option(help="Day (UTC) or instant of the call.", show_default="now")
    ] = None,
    tier: Annotated[str, typer.Option(help="standard, batch, flex or priority.")] = "standard",
    input_tokens: Annotated[int, typer.Option("--input", min=0, help="Uncached input tokens.")] = 1_000_000,
    output_tokens: Annotated[int, typer.Option("--output", min=0, help="Output tokens.")] = 1_000_000,
    cache_read_tokens: Annotated[int, typer.Option("--cache-read", min=0, help="Cached input.")] = 0,
    count: Annotated[
        list[str] | None,
        typer.Option(metavar="UNIT=N", help="A further count, such as reasoning_tokens=500."),
    ] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Say in words what a call costs and why: rate card, each count × rate, what counts."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    body: dict[str, object] = {
        "model": model, "provider": provider, "service_tier": tier, "input_tokens": input_tokens,
        "output_tokens": output_tokens, "cache_read_tokens": cache_read_tokens,
    }  # fmt: skip
    body |= {name: _whole(value, name) for name, value in _pairs(count or [], "count").items()}
    if at is not None:
        body["at"] = _instant(at)
    with connect(data_dir, org) as connection:
        told = connection.post("/v1/prices/explain", body, kind=dict[str, object])
    if as_json:
        write_json(told)
        return
    sentences = told["sentences"]
    for sentence in sentences if isinstance(sentences, list) else []:
        write(str(sentence))


def _rates(texts: list[str]) -> dict[str, str]:
    return _pairs(texts, "rate")


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise Failure(f"--{option} {text!r} must be UNIT=VALUE", ExitCode.USAGE)
        pairs[name.strip()] = value.strip()
    return pairs


def _whole(text: str, name: str) -> int:
    if not text.isdecimal():
        raise Failure(f"{name} must be a whole number, not {text!r}", ExitCode.USAGE)
    return int(text)


def _instant(text: str | None) -> str | None:
    """Return what the API takes: a day is its first moment in UTC."""
    return f"{text}T00:00:00Z" if text is not None and _DAY.fullmatch(text) else text


def _price_text(price: Price) -> str:
    if price.percent is not None:
        return f"{price.percent} % on the list price"
    rates = price.per_million or {}
    text = ", ".join(f"{unit.removesuffix('_tokens')} ${usd}" for unit, usd in rates.items())
    return f"{text}, more with context" if price.context_tiers else text


def _row(price: Price) -> list[str]:
    ends = (price.valid_to or "-")[:16].replace("T", " ")
    begins = price.valid_from[:16].replace("T", " ")
    tier = price.service_tier or "every"
    return [price.pattern, _price_text(price), tier, begins, ends, price.state, price.note, price.id]
