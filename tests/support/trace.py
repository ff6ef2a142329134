"""The recorded hour of real traffic as a CSV file, and how `bursar import csv` reads it.

Worked by hand: 18,059,974 input tokens at 2.50 USD and 245,896 output tokens at 10.00 USD a
million, the list price of gpt-4o, are 45.149935 + 2.45896 = 47.608895 USD. Each call's cost is
a whole number of nano-dollars at these rates, so no rounding hides in the sum.
"""

import gzip
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "data/azure_llm_trace_code_2023.csv.gz"
CALLS = 8_819
INPUT_TOKENS = 18_059_974
OUTPUT_TOKENS = 245_896
COST_NUSD = 47_608_895_000
COST_USD = "47.608895"
DAY = "2023-11-16"
OPTIONS = (
    *("--map", "occurred_at=TIMESTAMP", "--map", "input_tokens=ContextTokens"),
    *("--map", "output_tokens=GeneratedTokens", "--tz", "UTC"),
    *("--set", "agent=coder", "--set", "provider=openai", "--set", "model=gpt-4o"),
)


def trace(folder: Path) -> Path:
    """Write the trace below `folder` and return its path."""
    path = folder / "trace.csv"
    path.write_bytes(gzip.decompress(SOURCE.read_bytes()))
    return path
