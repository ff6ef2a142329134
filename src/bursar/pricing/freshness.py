"""How old the bundled public price list is: for `bursar doctor` and nothing that prices."""

from datetime import date
from importlib.metadata import version

_PACKAGE = "genai-prices"


def list_version() -> str:
    """Return the release of the price list's package."""
    return version(_PACKAGE)


def newest_price_day(today: date) -> date | None:
    """Return the latest day up to `today` on which a price of the list begins, None if none is dated.

    The list is at least as new as that; it carries no date of its own. Later days are
    changes announced for the future.
    """
    # Loading the list takes up to a second, and many commands never price.
    from genai_prices.data import providers  # noqa: PLC0415

    prices = [
        price
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
    ]
    starts = [getattr(price.constraint, "start_date", None) for price in prices]
    return max((day for day in starts if isinstance(day, date) and day <= today), default=None)
