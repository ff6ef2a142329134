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
    log_level: Annotated[
        str | None,
        typer.Option(envvar="BURSAR_LOG_LEVEL", help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Serve the API. The first run makes an organisation and prints its ingest key, once."""
    settings = load_settings(host=host, port=port, data_dir=_given(data_dir), log_level=log_level)
    # Imports make much and throw little away; `serving` lets the collector on again.
    gc.disable()
    # Only here: the server is most of what there is to import.
    from bursar.cli.serving import run  # noqa: PLC0415

    run(settings)


def _given(data_dir: Path | None) -> str | None:
    return None if data_dir is None else str(data_dir)
