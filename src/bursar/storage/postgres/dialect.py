"""PostgreSQL's words where the engines have none in common: `storage.sql.dialect.Dialect`."""


class PostgresDialect:
    """`storage.sql.dialect.Dialect`."""

    name = "postgres"
    transaction_number = "pg_current_xact_id()::text::bigint"

    def numbers(self, parameter: str) -> str:
        """Return a SELECT of the integers in a JSON array, one a row, its column `value`."""
        return f"SELECT value::bigint FROM jsonb_array_elements_text({parameter}::text::jsonb) AS one (value)"

    def hexadecimal(self, column: str) -> str:
        """Return lower-case hexadecimal digits of a column of bytes."""
        return f"encode({column}, 'hex')"

    def member(self, json_text: str, name: str) -> str:
        """Return member `name` of a column of JSON text as text, NULL where there is none."""
        return f"({_json(json_text)} ->> '{name}')"

    def item(self, json_text: str, place: int) -> str:
        """Return item `place` (from 0) of a column with a JSON list as text, NULL where there is none."""
        return f"({_json(json_text)} ->> {place})"

    def tuples(self, parameter: str, *columns: str) -> str:
        """Return a SELECT of lists of integers in a JSON array, one a row, its columns named."""
        items = ", ".join(f"(value ->> {place})::bigint AS {name}" for place, name in enumerate(columns))
        return f"SELECT {items} FROM jsonb_array_elements({parameter}::text::jsonb) AS one (value)"

    def contains(self, column: str, parameter: str) -> str:
        """Return a test whether a column of bytes or text has a part that equals `parameter`."""
        return f"position({parameter} IN {column}) > 0"

    def sought(self, outer: str, table: str, condition: str, *, is_outer: bool = False) -> str:
        """Return a FROM clause: for each row of `outer` its rows of `table`, found by an index."""
        # OFFSET keeps the planner from dissolving the subquery into a join that it would plan anew.
        rows = f"(SELECT * FROM {table} AS r WHERE {condition} OFFSET 0) AS r"
        return f"{outer} {'LEFT' if is_outer else 'INNER'} JOIN LATERAL {rows} ON TRUE"


def _json(text: str) -> str:
    r"""Return a column of JSON text as JSON that may be asked for its texts.

    One that is written `\u0000` in it cannot be had as a text here, so it becomes the character
    that stands for it in every other column (`connection.storable`).
    """
    shown = rf"regexp_replace({text}, '(?<!\\)((?:\\\\)*)\\u0000', '\1\ufffd', 'g')"
    return rf"(CASE WHEN position('\u0000' IN {text}) = 0 THEN {text} ELSE {shown} END)::json"


DIALECT = PostgresDialect()
