"""`bursar jobs`: run what has to run by itself, in a process that serves no API."""

from typing import Annotated

import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import DataDir

PORT = 8318


def jobs(
    *,
    host: Annotated[
        str | None,
        typer.Option(envvar="BURSAR_HOST", help="Address to listen on.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of health and metrics; 0 takes a free one.")] = PORT,
    data_dir: DataDir = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="BURSAR_LOG_LEVEL", help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Run the background jobs of a PostgreSQL database, for servers that were started with --no-jobs."""
    from bursar.cli.configuration import load_settings  # noqa: PLC0415 - see `main`

    settings = load_settings(host=host, port=port, data_dir=data_dir, log_level=log_level, runs_jobs=True)
    if not settings.is_shared:
        raise Failure(
            "the jobs of a ledger file run in its server",
            ExitCode.USAGE,
            hint="`bursar serve` runs them; this command is for a database that database_url names.",
        )
    from bursar.cli.serving import run_jobs  # noqa: PLC0415 - see `main`

    run_jobs(settings)
