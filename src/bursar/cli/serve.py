"""`bursar serve`: run the server until it is told to end."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from bursar.cli.configuration import load_settings
from bursar.cli.options import DataDir


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(envvar="BURSAR_HOST", help="Address to listen on.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="BURSAR_PORT", help="Port to listen on; 0 takes a free one.", show_default="8317"
        ),
    ] = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="BURSAR_WORKERS",
            help="Processes that serve; more than one needs a PostgreSQL database.",
            show_default="1",
        ),
    ] = None,
    jobs: Annotated[
        bool | None,
        typer.Option(
            "--jobs/--no-jobs",
            envvar="BURSAR_RUNS_JOBS",
            help="Run the background jobs too, or leave them to others.",
            show_default="jobs",
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="BURSAR_LOG_LEVEL", help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Serve the API. The first run makes an organisation and prints its ingest key, once."""
    flags: dict[str, object] = {
        "host": host,
        "port": port,
        "data_dir": _given(data_dir),
        "workers": workers,
        "runs_jobs": jobs,
        "log_level": log_level,
    }
    settings = load_settings(**flags)
    if settings.workers > 1:
        # Only here, as below: the parent of workers needs little.
        from bursar.cli.supervising import supervise  # noqa: PLC0415

        raise typer.Exit(supervise(settings, lambda: load_settings(**flags)))
    # Imports make much and throw little away; `serving` lets the collector on again.
    gc.disable()
    # Only here: the server is most of what there is to import.
    from bursar.cli.serving import run  # noqa: PLC0415

    run(settings)


def _given(data_dir: Path | None) -> str | None:
    return None if data_dir is None else str(data_dir)
