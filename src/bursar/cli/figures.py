"""How figures look to a person: thousands separators, money with sensible digits, bars.

Rounding here is for the eye only; `--json` and `--csv` carry every digit.
"""

from collections.abc import Iterable
from decimal import Decimal

BAR_CELLS = 16
_EIGHTHS = " ▏▎▍▌▋▊▉"


def count_text(count: int) -> str:
    """Return a count with thousands separators.

    Example:
        >>> count_text(18059974)
        '18,059,974'
    """
    return f"{count:,}"


def money_decimals(amounts: Iterable[Decimal]) -> int:
    """Return how many decimals a column of US dollars deserves: fewer, the larger its largest."""
    largest = max(map(abs, amounts), default=Decimal(0))
    for least, decimals in ((100, 2), (1, 4)):
        if largest >= least:
            return decimals
    return 6


def money_text(amount: Decimal, decimals: int) -> str:
    """Return US dollars with a sign, separators and `decimals`; what would look like 0 says so.

    Example:
        >>> money_text(Decimal("1234.5"), 2), money_text(Decimal("0.0004"), 2)
        ('$1,234.50', '<$0.01')
    """
    step = Decimal(1).scaleb(-decimals)
    if 0 < amount < step / 2:
        return f"<${step}"
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.{decimals}f}"


def rate_text(usd: Decimal) -> str:
    """Return a price with every digit and at least two decimals.

    Example:
        >>> rate_text(Decimal("2.5")), rate_text(Decimal("0.075"))
        ('$2.50', '$0.075')
    """
    whole, _, decimals = f"{usd:,f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def share_text(part: Decimal, whole: Decimal) -> str:
    """Return the percentage of a part to one decimal, a dash of nothing."""
    if whole <= 0:
        return "-"
    share = 100 * part / whole
    return "<0.1%" if 0 < share < Decimal("0.05") else f"{share:.1f}%"


def bar(part: Decimal, largest: Decimal, cells: int = BAR_CELLS) -> str:
    """Return a bar of block characters, in eighths of a cell; the largest part fills it.

    Any part above 0 shows at least its thinnest piece.
    """
    if largest <= 0 or part <= 0:
        return ""
    eighths = max(1, int(part * cells * 8 / largest))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).rstrip()
