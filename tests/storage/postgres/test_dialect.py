"""Words of PostgreSQL for what SQLite does by itself, asked of a server."""

import json

import pytest

from bursar.storage.postgres.dialect import DIALECT
from support.engines import Database

ENGINES = ("postgres",)
"""Its own words."""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("plain", "plain"),
        ("nul\0inside", "nul\ufffdinside"),
        ("\0\0", "\ufffd\ufffd"),
        ("backslash\\\0", "backslash\\\ufffd"),
        ("spelled out \\u0000", "spelled out \\u0000"),
        ("both \\\\u0000\0", "both \\\\u0000\ufffd"),
    ],
)
def test_a_text_with_nul_is_read_as_every_column_keeps_it(
    database: Database, written: str, read: str
) -> None:
    texts = [json.dumps({"name": written}), json.dumps(["first", written])]
    asked = (DIALECT.member("?1::text", "name"), DIALECT.item("?1::text", 1))
    for sql, text in zip(asked, texts, strict=True):
        assert database.rows(f"SELECT {sql}", text) == [(read,)]


def test_lists_of_numbers_are_rows(database: Database) -> None:
    sql = DIALECT.tuples("?", "piece", "starts_at")
    assert database.rows(sql, "[[1, 9223372036854775807], [2, -1]]") == [(1, 2**63 - 1), (2, -1)]


def test_a_part_of_bytes_is_found(database: Database) -> None:
    sql = f"SELECT {DIALECT.contains('?1::bytea', '?2')}"
    assert [database.rows(sql, b"a\0bc", part) for part in (b"\0b", b"bc", b"cb", b"")] == [
        [(True,)], [(True,)], [(False,)], [(True,)],
    ]  # fmt: skip
