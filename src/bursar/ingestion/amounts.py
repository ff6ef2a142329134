"""What an entry of the ledger counts as in budgets: a row's amounts by metric."""

from bursar.budgets.amounts import Amounts
from bursar.ledger.rows import EntryRow, media_of

_MEDIA_OUTPUT = ("output_audio_tokens", "output_image_tokens")
_NO_TOKENS = frozenset({"web_searches"})


def amounts_of_row(row: EntryRow) -> Amounts:
    """Return what `budgets.amounts.amounts_of` said of the row's event when it was posted."""
    media = media_of(row)
    output = row.output_tokens + row.reasoning_tokens + sum(media.get(name, 0) for name in _MEDIA_OUTPUT)
    total = sum(row[12:18]) + sum(count for name, count in media.items() if name not in _NO_TOKENS)
    return Amounts(row.cost_nusd, total, total - output, output, 1, row.duration_ms)
