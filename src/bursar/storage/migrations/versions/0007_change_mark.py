"""pre: marks that tell other processes what they must read anew.

`xact` is the number of the transaction that changed it, on an engine of many processes.
"""

from bursar.storage.migrations.baseline import fence

revision = "0007"
down_revision = "0006"

_INDEX = "CREATE INDEX change_mark_by_xact ON change_mark (xact)"

STATEMENTS = [
    """CREATE TABLE change_mark (
        org INTEGER NOT NULL, kind TEXT NOT NULL, xact INTEGER NOT NULL,
        PRIMARY KEY (org, kind)
    ) STRICT, WITHOUT ROWID""",
    _INDEX,
]

POSTGRES = [
    """CREATE TABLE change_mark (
        org BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL, xact BIGINT NOT NULL,
        PRIMARY KEY (org, kind)
    )""",
    _INDEX,
    *fence("change_mark"),
]


def upgrade() -> None:
    # Only here: an empty file gets STATEMENTS without alembic (`storage/sqlite/migrate.py`).
    from alembic import op  # noqa: PLC0415

    for statement in STATEMENTS:
        op.execute(statement)
