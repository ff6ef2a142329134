"""Options that many commands share, so that one word means one thing everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", envvar="BURSAR_DATA_DIR", help="Directory of the ledger.", show_default="data"
    ),
]
OrgName = Annotated[
    str | None,
    typer.Option("--org", envvar="BURSAR_ORG", help="Organisation, by name or id.", show_default="default"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
