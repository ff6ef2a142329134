"""PostgreSQL's words where the engines have none in common: `storage.sql.dialect.Dialect`."""


class PostgresDialect:
    """`storage.sql.dialect.Dialect`."""

    name = "postgres"

    def numbers(self, parameter: str) -> str:
        """Return a SELECT of the integers in a JSON array, one a row, its column `value`."""
        return f"SELECT value::bigint FROM jsonb_array_elements_text({parameter}::text::jsonb) AS one (value)"

    def hexadecimal(self, column: str) -> str:
        """Return lower-case hexadecimal digits of a column of bytes."""
        return f"encode({column}, 'hex')"

    def member(self, json_text: str, name: str) -> str:
        """Return member `name` of a column of JSON text as text, NULL where there is none."""
        return f"({json_text}::jsonb ->> '{name}')"


DIALECT = PostgresDialect()
