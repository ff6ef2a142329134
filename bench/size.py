"""Bytes on file per event, table by table, of a filled ledger.

`dbstat` counts whole pages, so what a page leaves free counts as well. The tables have no
row ids: an index is only what stands beside the key.
"""

import sqlite3
from collections import Counter
from contextlib import closing

from filled import Filled
from results import Figure, Results

ALL_MAX = 250
ROW_AND_KEY_MAX = 170
SHOWN_FROM = 0.5
"""Tables of fewer bytes per event are summed up as the rest."""

_TABLES = "SELECT name, tbl_name FROM sqlite_master"
_PAGES = "SELECT name, pgsize, payload FROM dbstat WHERE aggregate = TRUE"


def size(results: Results, ledger: Filled) -> None:
    """Report the file's bytes per event."""
    with closing(sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True)) as connection:
        tables = dict(connection.execute(_TABLES).fetchall())
        pages: Counter[str] = Counter()
        payload = 0
        for name, pgsize, used in connection.execute(_PAGES):
            pages[tables.get(name, name)] += pgsize
            payload += used
    shares = {name: used / ledger.events for name, used in pages.most_common()}
    keys = "time-ordered keys" if ledger.ordered_keys else "random keys"
    base = f"bytes per event, {ledger.events / 1e6:.0f} million, {keys}"
    notes: dict[str, float | str] = {name: share for name, share in shares.items() if share >= SHOWN_FROM}
    notes["rest"] = sum(share for share in shares.values() if share < SHOWN_FROM)
    notes["filled"] = payload / sum(pages.values())
    results.add(Figure(f"{base}: all", sum(shares.values()), "B", ALL_MAX, at_least=False, notes=notes))
    both = shares["event"] + shares["event_key"]
    results.add(Figure(f"{base}: row and key", both, "B", ROW_AND_KEY_MAX, at_least=False))
