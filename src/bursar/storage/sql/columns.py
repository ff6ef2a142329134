"""Column lists that several statements share, derived from the ledger's own tuples."""

from bursar.ledger.rows import ENTRY_COLUMNS, MEASURES, PLAIN_COLUMNS

ENTRY_COLUMN_LIST = ", ".join(ENTRY_COLUMNS)
ENTRY_PARAMETERS = ", ".join("?" * len(ENTRY_COLUMNS))

PLAIN_COLUMN_LIST = ", ".join(PLAIN_COLUMNS)
PLAIN_PARAMETERS = ", ".join("?" * len(PLAIN_COLUMNS))

MEASURE_LIST = ", ".join(MEASURES)
MEASURE_PARAMETERS = ", ".join("?" * len(MEASURES))
MEASURE_SUMS = ", ".join(f"SUM({name}) AS {name}" for name in MEASURES)
MEASURE_ADDS = ", ".join(f"{name} = {name} + excluded.{name}" for name in MEASURES)


def measure_adds(table: str) -> str:
    """Return the assignments that add an upsert's measures to a row of `table`."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in MEASURES)


def span_adds(table: str) -> str:
    """Return the assignments that widen a row's first and last event by an upsert's."""
    first, last = (f"({table}.{name}, excluded.{name})" for name in ("first_at", "last_at"))
    return f"first_at = min{first}, last_at = max{last}"
