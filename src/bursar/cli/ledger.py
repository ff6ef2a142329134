"""`bursar ledger verify`: prove a whole ledger, beside a running server or on a backup."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.failures import ExitCode
from bursar.cli.figures import count_text
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import say, write, write_json

if TYPE_CHECKING:
    from bursar.ledger.verification import VerifyReport

app = typer.Typer(help="Prove that the ledger is exact.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Prove that the ledger is exact."""


@app.command()
def verify(
    *,
    file: Annotated[
        Path | None,
        typer.Option(help="A ledger file, such as a backup, in place of the ledger in use.", exists=True),
    ] = None,
    data_dir: DataDir = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="BURSAR_DATABASE_URL",
            help="A PostgreSQL database; a standby, or a role that may only read, will do.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every sum, key, price and correction. Ends with 1 when anything does not hold."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`
    from bursar.cli.progress import progress  # noqa: PLC0415 - see `main`
    from bursar.core.addresses import without_password  # noqa: PLC0415 - see `main`
    from bursar.wiring import verify_file, verify_ledger  # noqa: PLC0415 - see `main`

    settings = load_settings(data_dir=data_dir, database_url=database_url)
    place = str(file or without_password(settings.database_url) or settings.data_dir)
    with progress("verifying") as on_progress:
        report = verify_file(file, on_progress) if file else verify_ledger(settings, on_progress)
    if as_json:
        write_json(report.to_json())
    else:
        _show(report, place)
    if not report.ok:
        raise typer.Exit(ExitCode.FAILED)


def _show(report: "VerifyReport", place: str) -> None:
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`
    from bursar.ledger.verification import CHECKS  # noqa: PLC0415 - see `main`

    columns = [
        Column("check"),
        Column("looked at", is_number=True),
        Column("wrong", is_number=True),
        Column("what must hold", is_wrapped=True),
    ]
    rows = [
        [check.name, count_text(check.checked), count_text(check.violations), CHECKS[check.name]]
        for check in report.checks
    ]
    write_table(columns, rows)
    if report.ok:
        write(f"The ledger in {place} is exact.")
        return
    say(f"{count_text(report.violations_count)} things do not hold in {place}:")
    for one in report.violations:
        say(f"  {one.check}: {one.table} {one.key}: expected {one.expected}, found {one.found}")
    say("Keep a copy of it as it is, and see docs/ledger.md for what to do.")
