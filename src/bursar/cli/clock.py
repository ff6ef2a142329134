"""`bursar clock confirm`: say that a sudden step of the server's clock is right.

Over POST /v1/clock/confirm; `bursar status` tells whether the clock is in doubt. Not here: what a
doubt means for budgets (`budgets.clock`).
"""

import msgspec
import typer

from bursar.cli.options import AsJson, DataDir
from bursar.cli.output import write, write_json

app = typer.Typer(help="Believe the server's clock after a sudden step.", no_args_is_help=True)


class Believed(msgspec.Struct, frozen=True):
    """How the clock stands now, and whether it was in doubt before."""

    clock: str
    changed: bool


@app.callback()
def group() -> None:
    """Believe the server's clock after a sudden step."""


@app.command()
def confirm(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say that the server's clock is right, so that budgets count in its present window alone."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir) as connection:
        believed = connection.post("/v1/clock/confirm", {}, kind=Believed)
    if as_json:
        write_json(believed)
    elif believed.changed:
        write("The clock is believed: budgets count in its present window from now on.")
    else:
        write("The clock was not in doubt; nothing to confirm.")
