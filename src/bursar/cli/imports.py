"""`bursar import claude-code|csv|jsonl`: bring in what was spent before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.figures import count_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write, write_json

if TYPE_CHECKING:
    from bursar.capture.reading import Tally
    from bursar.cli.importing import Import, Summary

app = typer.Typer(
    help="Import calls from files. Repeating an import counts nothing twice.", no_args_is_help=True
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and price, record nothing.")]
Again = Annotated[bool, typer.Option("--again", help="Read files too that have not changed since last time.")]
Paths = Annotated[list[Path], typer.Argument(help="Files to read.", exists=True, dir_okay=False)]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=COLUMN", help="Which column holds a field; may be given several times."
    ),
]
Constants = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field that no column holds, such as agent=coder."),
]
Zone = Annotated[str | None, typer.Option("--tz", help="IANA zone of times that name none.")]
KeyColumn = Annotated[str | None, typer.Option(help="Column with an id that makes each call unique.")]

PROBLEMS_SHOWN = 10


@app.command("claude-code")
def claude_code(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders or files.", exists=True, show_default="where Claude Code keeps its logs"
        ),
    ] = None,
    *,
    agent: Annotated[str, typer.Option(help="The agent to book all calls on.")] = "claude-code",
    provider: Annotated[str, typer.Option(help="Who answered.")] = "anthropic",
    project: Annotated[
        str | None,
        typer.Option(help="Project of all calls.", show_default="the last part of each working directory"),
    ] = None,
    feature: Annotated[str, typer.Option(help="Feature of all calls.")] = "",
    user: Annotated[str, typer.Option(help="User of all calls.")] = "",
    subscription: Annotated[
        bool, typer.Option("--subscription", help="The calls are part of a plan and cost nothing each.")
    ] = False,
    dry_run: DryRun = False,
    again: Again = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Import Claude Code's local logs."""
    import os  # noqa: PLC0415 - see `main`

    from bursar.capture import checks  # noqa: PLC0415 - see `main`
    from bursar.capture.claude_code import (  # noqa: PLC0415 - see `main`
        ClaudeCodeOptions,
        default_roots,
        find_logs,
        read_logs,
    )
    from bursar.capture.reading import Tally  # noqa: PLC0415 - see `main`
    from bursar.cli.importing import Import  # noqa: PLC0415 - see `main`
    from bursar.core.usage import Billing  # noqa: PLC0415 - see `main`

    options = ClaudeCodeOptions(
        agent=checks.name(agent, "agent"),
        provider=checks.name(provider, "provider"),
        project=None if project is None else checks.optional_name(project, "project"),
        feature=checks.optional_name(feature, "feature"),
        user=checks.optional_name(user, "user"),
        billing=Billing.SUBSCRIPTION if subscription else Billing.METERED,
    )
    tally = Tally()
    roots = paths or default_roots(os.environ, Path.home())
    files = find_logs(roots, tally)
    if not files:
        places = ", ".join(map(str, roots))
        raise Failure(f"there are no logs of Claude Code in {places}", ExitCode.NOT_FOUND)
    wanted = Import(
        "claude_code",
        options.settings,
        files,
        lambda chosen, counted, on_progress: read_logs(chosen, options, counted, on_progress),
    )
    _run(wanted, tally, data_dir, org, dry_run=dry_run, again=again, as_json=as_json)


@app.command("csv")
def import_csv(
    files: Paths,
    *,
    columns: Maps = None,
    constants: Constants = None,
    tz: Zone = None,
    key_column: KeyColumn = None,
    dry_run: DryRun = False,
    again: Again = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Import tables with a header line, by a mapping of their columns."""
    _refuse_others(files, is_json=False)
    wanted = _table(files, columns or [], constants or [], tz, key_column)
    _run(wanted, None, data_dir, org, dry_run=dry_run, again=again, as_json=as_json)


@app.command("jsonl")
def import_jsonl(
    files: Paths,
    *,
    columns: Maps = None,
    constants: Constants = None,
    tz: Zone = None,
    key_column: KeyColumn = None,
    dry_run: DryRun = False,
    again: Again = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Import files with one JSON object a line; a column may be a path such as usage.input_tokens."""
    _refuse_others(files, is_json=True)
    wanted = _table(files, columns or [], constants or [], tz, key_column)
    _run(wanted, None, data_dir, org, dry_run=dry_run, again=again, as_json=as_json)


def _refuse_others(files: list[Path], *, is_json: bool) -> None:
    """Refuse what cannot be read twice, and a file whose name says that it is of the other kind.

    Readers go by the name; an import looks at a file before it reads it.
    """
    endings = {".jsonl", ".ndjson", ".json"}
    for path in files:
        if not path.is_file():
            raise Failure(f"{path} is no regular file; write what it gives to one first", ExitCode.USAGE)
        if (path.suffix.lower() in endings) != is_json:
            other = "csv" if is_json else "jsonl"
            said = (
                f"the name of {path} does not end in .jsonl, .ndjson or .json"
                if is_json
                else f"{path} is JSON"
            )
            raise Failure(f"{said}; for the other kind there is `bursar import {other}`", ExitCode.USAGE)


def _table(
    files: list[Path], columns: list[str], constants: list[str], tz: str | None, key_column: str | None
) -> "Import":
    from bursar.capture.mapping import mapping_from_texts  # noqa: PLC0415 - see `main`
    from bursar.capture.tabular import read_tables  # noqa: PLC0415 - see `main`
    from bursar.cli.importing import Import  # noqa: PLC0415 - see `main`

    mapping = mapping_from_texts(columns, constants, zone_name=tz, key_column=key_column)
    return Import(
        "table",
        mapping.settings,
        files,
        lambda chosen, counted, on_progress: read_tables(chosen, mapping, counted, on_progress),
    )


def _run(
    wanted: "Import",
    tally: "Tally | None",
    data_dir: Path | None,
    org: str | None,
    *,
    dry_run: bool,
    again: bool,
    as_json: bool,
) -> None:
    from bursar.capture.reading import Tally  # noqa: PLC0415 - see `main`
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`
    from bursar.cli.importing import run_import  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        summary = run_import(wanted, tally or Tally(), connection, dry_run=dry_run, again=again)
    if as_json:
        write_json(summary)
    else:
        _show(summary)
    if summary.is_in_vain:
        raise typer.Exit(ExitCode.FAILED)


def _show(summary: "Summary") -> None:
    files = summary.files
    told = [(files.unchanged, "unchanged since last time"), (files.skipped, "left out on purpose")]
    notes = [f"{count_text(count)} {note}" for count, note in told if count]
    verb = "Would record" if summary.dry_run else "Recorded"
    what = "calls" if summary.recorded != 1 else "call"
    where = "files" if files.read != 1 else "file"
    write(f"{verb} {count_text(summary.recorded)} {what} from {count_text(files.read)} {where}.")
    lines = [
        ("files", ", ".join([f"{count_text(files.found)} found", *notes])),
        ("lines", f"{count_text(summary.read)} read, {count_text(summary.calls)} calls in them"),
        ("tokens", count_text(summary.tokens)),
        ("cost", f"${summary.cost_usd}"),
    ]
    if not summary.dry_run:
        lines.append(("duplicates", count_text(summary.duplicates)))
    lines += [("conflicts", count_text(summary.conflicts))] if summary.conflicts else []
    lines += [("skipped", f"{count_text(count)} {reason}") for reason, count in summary.skipped.items()]
    for name, text in lines:
        write(f"  {name:<10} {text}")
    if summary.unpriced:
        write(
            f"  UNPRICED   {count_text(summary.unpriced)} calls have no known price and are not in the cost;"
        )
        write("             `bursar models unpriced` lists their models.")
    for problem in summary.problems[:PROBLEMS_SHOWN]:
        say(problem)
    if len(summary.problems) > PROBLEMS_SHOWN:
        say("… and more; --json tells the first hundred.")
