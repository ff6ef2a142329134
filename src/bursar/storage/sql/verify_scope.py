"""What every check shares: the organisation it reads, and how two streams are compared.

Not here: any check (`verify_sums`, `verify_rows`, `verify_history`, `verify_names`).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from bursar.ledger.verification import Findings, Violation
from bursar.storage.sql.ports import Connection, Rows

TIME_MIN = -(2**63)
TIME_MAX = 2**63 - 1
"""All times there can be: ranges tile from the first to the last, so no row falls between."""

HOUR_OF = "occurred_at - (occurred_at % 3600000000 + 3600000000) % 3600000000"
"""SQL of an instant's hour. `%` keeps the sign, and a time may lie before 1970."""

ASKED_AT_ONCE = 50
"""Keys looked up by one statement: few enough to plan, and enough that the way there does not count."""

COUNTS_OF = "(flags >> 14 & 3)"
"""SQL of which cost counts (`ledger.rows`)."""


class Scope(NamedTuple):
    """One organisation within one snapshot, and where violations go."""

    connection: Connection
    org: int
    findings: Findings

    def rows(self, sql: str, *values: object) -> Rows:
        """Run a query bound to the organisation, which is parameter 1."""
        return self.connection.execute(sql, (self.org, *values))

    def stream(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Run a query that gives many rows, bound like `rows`."""
        return self.connection.stream(sql, (self.org, *values))

    def among(self, sql: str, test: str, keys: Collection[Sequence[object]]) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a query for many keys.

        Args:
            sql: Bound to the organisation; `{}` stands where the keys are tested.
            test: Of one key, a `?` for each of its columns.
            keys: Different ones, each with its columns.
        """
        left = iter(keys)
        while some := list(islice(left, ASKED_AT_ONCE)):
            # Filled up with the last, so that there is one statement to plan and to keep.
            some += some[-1:] * (ASKED_AT_ONCE - len(some))
            numbers = iter(range(2, 2 + len(some) * len(some[0])))
            tests = (_numbered(test, numbers) for _ in some)
            text = sql.format(f"({' OR '.join(tests)})")
            yield from map(tuple, self.rows(text, *(value for key in some for value in key)).fetchall())

    def number(self, sql: str, *values: object) -> int:
        """Return a query's one integer, 0 for NULL."""
        return int(self.rows(sql, *values).fetchone()[0] or 0)

    def differs(self, check: str, table: str, key: str, *, expected: object, found: object) -> None:
        """Note a violation."""
        self.findings.add(Violation(check, self.org, table, key, shown(expected), shown(found)))


def shown(value: object) -> str:
    """Return a value as a report shows it: bytes as hexadecimal digits, NULL as `nothing`."""
    if isinstance(value, bytes):
        return value.hex()
    return "nothing" if value is None else str(value)


def key_text(names: Sequence[str], values: Sequence[object]) -> str:
    """Return a row's key as a report shows it: `hour=…, agent=…`."""
    return ", ".join(f"{name}={shown(value)}" for name, value in zip(names, values, strict=True))


def pairs(
    expected: Iterable[tuple[object, ...]], stored: Iterable[tuple[object, ...]], width: int
) -> Iterator[tuple[tuple[object, ...] | None, tuple[object, ...] | None]]:
    """Join two streams, both ascending by their first `width` columns; None where one has no row.

    Holds one row of each in memory.
    """
    left, right = iter(expected), iter(stored)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        order = _order(one, other, width)
        yield (one if order <= 0 else None), (other if order >= 0 else None)
        one = next(left, None) if order <= 0 else one
        other = next(right, None) if order >= 0 else other


def compare(
    scope: Scope,
    check: str,
    table: str,
    expected: Iterable[tuple[object, ...]],
    stored: Iterable[tuple[object, ...]],
    *,
    names: Sequence[str],
    width: int,
) -> None:
    """Note each row that only one stream has and each column that differs.

    `names` are the columns of both, the first `width` of them the key, by which both ascend.
    """
    seen = 0
    for want, have in pairs(expected, stored, width):
        seen += 1
        if want == have:
            continue
        key = key_text(names[:width], (want or have or ())[:width])
        if want is None or have is None:
            described = [row and key_text(names[width:], row[width:]) for row in (want, have)]
            scope.differs(check, table, key, expected=described[0], found=described[1])
            continue
        for name, wanted, found in zip(names[width:], want[width:], have[width:], strict=True):
            if wanted != found:
                scope.differs(check, table, f"{key}: {name}", expected=wanted, found=found)
    scope.findings.checked(check, seen)


def _numbered(test: str, numbers: Iterator[int]) -> str:
    """Return a test with a number behind each `?`."""
    first, *rest = test.split("?")
    return first + "".join(f"?{next(numbers)}{part}" for part in rest)


def _order(one: tuple[object, ...] | None, other: tuple[object, ...] | None, width: int) -> int:
    """Return -1, 0 or 1 as `one` comes before, with or after `other`; an ended stream comes last."""
    if one is None or other is None:
        return 1 if one is None else -1
    left, right = one[:width], other[:width]
    if left == right:
        return 0
    return -1 if left < right else 1
