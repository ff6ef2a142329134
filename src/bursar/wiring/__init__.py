"""The one place that knows which implementation serves which port.

    Settings → Treasury (`treasury`) → its ASGI app; the parts of budgets stand in `enforcement`

Nothing here decides anything about usage or money.
"""

from bursar.wiring.operator_token import OPERATOR_TOKEN_NAME
from bursar.wiring.proving import verify_file, verify_ledger
from bursar.wiring.treasury import Treasury

__all__ = ["OPERATOR_TOKEN_NAME", "Treasury", "verify_file", "verify_ledger"]
