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
