"""What PostgreSQL spells in another way, and what only looks as if it did."""

import pytest

from bursar.storage.postgres.spelling import spelled


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT a FROM t WHERE b = ? AND c = ?", "SELECT a FROM t WHERE b = $1 AND c = $2"),
        ("SELECT ?2, ?1, ?2", "SELECT $2, $1, $2"),
        ("SELECT ?3, ?", "SELECT $3, $4"),
        ("SELECT :one, :two, :one", "SELECT $1, $2, $1"),
        ("SELECT ?::bigint[], a::text", "SELECT $1::bigint[], a::text"),
        ("SELECT 'is it ?' || ':so' || 'it''s ?'", "SELECT 'is it ?' || ':so' || 'it''s ?'"),
        ('SELECT "a ?" FROM t', 'SELECT "a ?" FROM t'),
        ("SELECT 1 -- what? :this\n, ?", "SELECT 1 -- what? :this\n, $1"),
        ("SELECT a FROM t INDEXED BY t_by_a WHERE b = ?", "SELECT a FROM t WHERE b = $1"),
        ("SELECT a FROM t\n    NOT INDEXED WHERE b = ?", "SELECT a FROM t WHERE b = $1"),
        ("SELECT user, r.user FROM user_label", 'SELECT "user", r."user" FROM user_label'),
        ("SELECT 'user', user_id, superuser FROM t", "SELECT 'user', user_id, superuser FROM t"),
    ],
)
def test_a_text_is_spelled(sql: str, text: str) -> None:
    assert spelled(sql).text == text


@pytest.mark.parametrize(
    ("sql", "gives_rows"),
    [
        ("SELECT 1", True),
        ("  -- first\n  select 1", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("(SELECT 1) UNION ALL (SELECT 2)", True),
        ("INSERT INTO t (a) VALUES (?)\nRETURNING a", True),
        ("INSERT INTO t (a) VALUES (' RETURNING ')", False),
        ("UPDATE t SET a = 1 -- RETURNING a\n", False),
        ("DELETE FROM t WHERE a = (SELECT 1)", False),
    ],
)
def test_it_is_known_whether_a_statement_answers_with_rows(sql: str, *, gives_rows: bool) -> None:
    assert spelled(sql).gives_rows is gives_rows


def test_named_parameters_come_in_the_texts_order_and_others_are_left_out() -> None:
    statement = spelled("SELECT :b, :a, :b")
    assert statement.ordered({"a": 1, "b": 2, "unused": 3}) == [2, 1]
