"""The program `bursar`: its commands, and what becomes of an error.

Every option comes from its flag, else from the environment (`BURSAR_REPORT_BY` for `--by`
of `report`), else from the command's table in the configuration file (`[report]`), else
from its default (`option_names`). A command's module imports only what declares its options; the work is
imported when it is called, so that `--help` stays quick.
"""

import sys
from typing import Annotated

import typer
from typer.main import get_command

import bursar
from bursar.cli import (
    agents,
    audit,
    budgets,
    check_config,
    clock,
    doctor,
    events,
    failures,
    holds,
    imports,
    incidents,
    init,
    jobs,
    keys,
    ledger,
    migrate,
    models,
    moving,
    orgs,
    prices,
    report,
    serve,
    status,
    users,
)
from bursar.cli.configuration import command_tables
from bursar.cli.option_names import defaults, name_variables
from bursar.cli.output import say
from bursar.core.errors import AppError

_TELLS_FAULTS = {"check-config", "doctor", "--help", "-h", "--version"}

app = typer.Typer(
    name="bursar",
    help="The treasurer of a fleet of AI agents: who spent what, on which model, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("serve")(serve.serve)
app.command("jobs")(jobs.jobs)
app.command("init")(init.init)
app.command("report")(report.report)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("backup")(moving.backup)
app.command("restore")(moving.restore)
app.command("move")(moving.move)
app.command("check-config")(check_config.check_config)
app.command("migrate")(migrate.migrate)
app.add_typer(keys.app, name="keys")
app.add_typer(orgs.app, name="orgs")
app.add_typer(users.app, name="users")
app.add_typer(audit.app, name="audit")
app.add_typer(events.app, name="events")
app.add_typer(models.app, name="models")
app.add_typer(prices.app, name="prices")
app.add_typer(ledger.app, name="ledger")
app.add_typer(imports.app, name="import")
app.add_typer(budgets.app, name="budgets")
app.add_typer(holds.app, name="holds")
app.add_typer(agents.app, name="agents")
app.add_typer(incidents.app, name="incidents")
app.add_typer(clock.app, name="clock")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the library calls it so
    if wanted:
        typer.echo(f"bursar {bursar.__version__}")
        raise typer.Exit


@app.callback()
def program(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            allow_from_autoenv=False,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """The treasurer of a fleet of AI agents: who spent what, on which model, and why."""
    del version


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        command = get_command(app)
        name_variables(command)
        command(default_map=defaults(_tables(), command))
    except failures.Failure as failure:
        _end(failure)
    except AppError as error:
        _end(failures.Failure.from_error(error))


def _tables() -> dict[str, object]:
    """Return the file's tables; commands that tell what is wrong with it begin without them."""
    try:
        return command_tables()
    except failures.Failure:
        if _TELLS_FAULTS.isdisjoint(sys.argv[1:]):
            raise
        return {}


def _end(failure: failures.Failure) -> None:
    say(f"Error: {failure.sentence}")
    if failure.hint:
        say(failure.hint)
    sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
