"""`bursar status`: what runs, and how each part answers at this moment."""

import typer

from bursar.cli.failures import ExitCode
from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import write, write_json


def status(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say whether a server runs and how its parts answer. Ends with 6 when one does not."""
    import bursar  # noqa: PLC0415 - see `main`
    from bursar.cli.address import running_address  # noqa: PLC0415 - see `main`
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`
    from bursar.core.addresses import without_password  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        parts = connection.get("/v1/status", kind=dict[str, object])
        settings = connection.settings
        address = None if connection.is_in_process else running_address(settings)
    document = {
        "server": None if address is None else address.url,
        "pid": None if address is None else address.pid,
        "started_at": None if address is None else address.started_at,
        "version": bursar.__version__,
        "data_dir": str(settings.data_dir.resolve()),
        "database_url": without_password(settings.database_url) or None,
        **parts,
    }
    if as_json:
        write_json(document)
    else:
        document["server"] = document["server"] or "none runs; commands open the ledger themselves"
        for name, value in document.items():
            if value not in (None, []):
                write(f"{name:<12} {'; '.join(value) if isinstance(value, list) else value}")
    if parts.get("database") != "ok":
        raise typer.Exit(ExitCode.UNREACHABLE)
