"""Which budget a person means: by its id, or by a name that is one budget's only.

Not here: the commands (`budgets`, `holds`).
"""

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.pages import whole_list

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

BudgetName = Annotated[
    str, typer.Argument(metavar="BUDGET", help="Its id (bud_…), or its name where that is one budget's.")
]

_ID = re.compile(r"bud_[0-9a-f]{32}")


class _Named(msgspec.Struct, frozen=True):
    id: str
    name: str | None


def budget_id(connection: "Connection", wanted: str) -> str:
    """Return the id of the one budget that `wanted` means.

    Raises:
        Failure: No budget has the name, or several do. An id is not looked up.
    """
    if _ID.fullmatch(wanted):
        return wanted
    budgets = [msgspec.json.decode(one, type=_Named) for one in whole_list(connection, "/v1/budgets")]
    found = [budget.id for budget in budgets if budget.name == wanted]
    if not found:
        raise Failure(
            f"there is no budget {wanted!r}", ExitCode.NOT_FOUND, hint="`bursar budgets list` shows them."
        )
    if len(found) > 1:
        raise Failure(
            f"{wanted!r} means several budgets: {', '.join(found)}",
            ExitCode.USAGE,
            hint="Name one by its id.",
        )
    return found[0]
