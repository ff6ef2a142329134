"""Money as integers of nano-USD, parsed and printed without a binary float.

One nano-USD is 10⁻⁹ USD. Inside, money is `int`; at the edges it is `Decimal` or text.
A *reported* cost is rounded half-even to nine decimals (clients compute in floats, so
long tails are normal); a *computed* cost is rounded up once, in `pricing`.
"""

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from bursar.core.errors import InvalidAmount

NUSD_PER_USD = 1_000_000_000
NUSD_MAX = 2**63 - 1
"""The largest amount a ledger column holds: about 9.22 × 10⁹ USD."""

_STEP_USD = Decimal("1e-9")
# The default context keeps 28 digits and would round a long amount before we do: "0.00000000050…01"
# would become a tie. `quantize` rounds the operand itself, once; this only has to hold its result.
_EXACT = Context(prec=100)
_TEXT_LENGTH_MAX = 64


def nusd_from_decimal(amount_usd: Decimal) -> int:
    """Return `amount_usd` in nano-USD, rounded half-even to nine decimals.

    Raises:
        InvalidAmount: Negative, not a number, infinite, or above 9.2 × 10⁹ USD.
    """
    try:
        nusd = int(amount_usd.quantize(_STEP_USD, ROUND_HALF_EVEN, _EXACT).scaleb(9, _EXACT))
    except (InvalidOperation, ValueError, OverflowError):
        raise _refusal(amount_usd) from None
    # A tiny negative amount rounds to 0, so zero looks at the sign as well.
    if not 0 < nusd <= NUSD_MAX and (nusd or amount_usd < 0):
        raise _refusal(amount_usd)
    return nusd


def _refusal(amount_usd: Decimal) -> InvalidAmount:
    """Return why an amount is no money."""
    if not amount_usd.is_finite():
        return InvalidAmount("must be a finite number of US dollars")
    if amount_usd < 0:
        return InvalidAmount("must not be negative")
    return InvalidAmount("must not be above 9.2e9 US dollars")


def nusd_from_text(text: str) -> int:
    """Return the amount in nano-USD that `text` says in US dollars, rounded half-even.

    Raises:
        InvalidAmount: Not a decimal number of at most 64 ASCII characters, or refused
            by `nusd_from_decimal`.

    Example:
        >>> nusd_from_text("0.015500000000000001")
        15500000
    """
    if len(text) > _TEXT_LENGTH_MAX:
        raise InvalidAmount(f"must have at most {_TEXT_LENGTH_MAX} characters")
    try:
        amount_usd = Decimal(text.strip())
    except InvalidOperation:
        raise _not_a_number() from None
    if "_" in text or not text.isascii():  # Python's spelling, nobody's money
        raise _not_a_number()
    return nusd_from_decimal(amount_usd)


def nusd_from_exact(amount_usd: Decimal) -> int:
    """Return an exactly computed `amount_usd` in nano-USD, rounded up to the next one."""
    return int(amount_usd.quantize(_STEP_USD, ROUND_CEILING, _EXACT).scaleb(9, _EXACT))


def decimal_from_nusd(amount_nusd: int) -> Decimal:
    """Return US dollars with exactly nine decimals."""
    return Decimal(amount_nusd).scaleb(-9, _EXACT)


def text_from_nusd(amount_nusd: int) -> str:
    """Return US dollars as plain text, no exponent, trailing zeros cut, two decimals kept.

    Example:
        >>> text_from_nusd(11_125_000), text_from_nusd(-5), text_from_nusd(2_500_000_000)
        ('0.011125', '-0.000000005', '2.50')
    """
    sign = "-" if amount_nusd < 0 else ""
    whole, nanos = divmod(abs(amount_nusd), NUSD_PER_USD)
    decimals = f"{nanos:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def _not_a_number() -> InvalidAmount:
    return InvalidAmount('must be a decimal number, for example "0.0155"')
