"""`bursar backup`, `bursar restore` and `bursar move`: a ledger in another place, the same to the last digit.

These open the ledger themselves, as `bursar ledger verify` does: a copy needs nothing that a server
has in memory. Not here: how it is done (`wiring.moving`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.failures import Failure
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import say, write, write_json

DIGITS_SHOWN = 12

if TYPE_CHECKING:
    from bursar.cli.progress import OnProgress
    from bursar.wiring.moving import Copied


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to make; a file of that name must not exist.")],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Prove the backup as well, once it is made.")
    ] = False,
    without_signing_keys: Annotated[
        bool,
        typer.Option(
            "--without-signing-keys", help="Leave out the secrets that sign sessions: people log in anew."
        ),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy the ledger, in use or not, into one file: a consistent state that can be proved and restored."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`
    from bursar.wiring import engines, moving  # noqa: PLC0415 - see `main`

    place = engines.place_of(load_settings(data_dir=data_dir))
    made = asyncio.run(
        moving.back_up(place, file, _stage, with_signing_keys=not without_signing_keys, then_verify=verify)
    )
    _tell(made, f"{file} is made", as_json=as_json)
    if made.verified is False:
        raise Failure(
            "the backup holds what the ledger holds, and that is not exact",
            hint=f"`bursar ledger verify --file {file}` shows what does not hold.",
        )


def restore(
    file: Annotated[
        Path, typer.Argument(help="A file that `bursar backup` has made.", exists=True, dir_okay=False)
    ],
    *,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back, into an empty data directory or an empty database, and prove it."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`
    from bursar.wiring import engines, moving  # noqa: PLC0415 - see `main`

    place = engines.place_of(load_settings(data_dir=data_dir))
    restored = asyncio.run(moving.restore(place, file, _stage))
    _tell(restored, f"{place.name} holds what {file} holds, and that is exact", as_json=as_json)


def move(
    *,
    source: Annotated[
        str, typer.Option("--from", help="sqlite:DIRECTORY or postgresql://USER@HOST/DATABASE.")
    ],
    target: Annotated[str, typer.Option("--to", help="The same; what is there must be empty.")],
    as_json: AsJson = False,
) -> None:
    """Move a ledger to another engine, or another place, and prove that not a row has changed."""
    from bursar.wiring import engines, moving  # noqa: PLC0415 - see `main`

    here, there = engines.place_at(source, field="from"), engines.place_at(target, field="to")
    moved = asyncio.run(moving.move(here, there, _stage))
    exact = ", and that is exact" if moved.verified else ""
    _tell(moved, f"{there.name} holds what {here.name} held, row for row{exact}", as_json=as_json)
    if not moved.verified:
        raise Failure(
            "all of it was moved, but the ledger itself is not exact, and was not before",
            hint="`bursar ledger verify` shows what does not hold.",
        )


@contextmanager
def _stage(title: str) -> "Iterator[OnProgress | None]":
    from bursar.cli.progress import progress  # noqa: PLC0415 - see `main`

    with progress(title, with_speed=True) as on_progress:
        yield on_progress


def _tell(copied: "Copied", sentence: str, *, as_json: bool) -> None:
    from bursar.cli.figures import count_text  # noqa: PLC0415 - see `main`

    if as_json:
        write_json(copied)
        return
    _show(copied)
    rows = count_text(copied.rows)
    write(f"{sentence}: {rows} rows of {len(copied.tables)} tables in {copied.seconds:.1f} s.")
    if copied.nuls:
        nuls = count_text(copied.nuls)
        say(f"{nuls} texts had a NUL, which PostgreSQL cannot keep: U+FFFD stands in its place.")


def _show(copied: "Copied") -> None:
    from bursar.cli.figures import count_text  # noqa: PLC0415 - see `main`
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`
    from bursar.core.money import text_from_nusd  # noqa: PLC0415 - see `main`

    columns = [
        Column("table"),
        *(Column(name, is_number=True) for name in ("rows", "organisations", "US dollars", "tokens")),
        Column("content"),
    ]
    rows = [
        [
            one.table,
            count_text(one.rows),
            count_text(one.organisations),
            text_from_nusd(one.sums["cost_nusd"]) if "cost_nusd" in one.sums else "-",
            _tokens(one.sums),
            one.content[:DIGITS_SHOWN] if one.content else "-",
        ]
        for one in copied.tables
        if one.rows
    ]
    write_table(columns, rows, empty="every table is empty")


def _tokens(sums: dict[str, int]) -> str:
    from bursar.cli.figures import count_text  # noqa: PLC0415 - see `main`

    found = [amount for name, amount in sums.items() if name.endswith("_tokens")]
    return count_text(sum(found)) if found else "-"
