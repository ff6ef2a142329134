"""A database is proved where it lies: beside writers, by whoever may only read."""

from collections.abc import Iterator

import pytest
from audited_ledger import AuditedLedger, event

from bursar.core.errors import InvalidInput, Unavailable
from bursar.ledger.verification import Findings
from bursar.storage.postgres.snapshots import PostgresSnapshots
from bursar.storage.sql.verify import verify
from bursar.storage.sql.verify_ports import Snapshot
from support.engines import PostgresDatabase, admin, server

ENGINES = ("postgres",)
READER = "only_reads"


@pytest.fixture
def reader(good_ledger: PostgresDatabase) -> Iterator[str]:
    """The address of a role that may read the ledger and nothing else."""
    for statement in (
        f"CREATE ROLE {READER} LOGIN PASSWORD 'x'",
        f"GRANT USAGE ON SCHEMA bursar TO {READER}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA bursar TO {READER}",
    ):
        good_ledger.run_script(statement)
    where = good_ledger.address.rpartition("@")[2]
    yield f"postgresql://{READER}:x@{where}"
    good_ledger.run_script(f"DROP OWNED BY {READER}; DROP ROLE {READER}")


def test_a_role_that_may_only_read_proves_it(reader: str) -> None:
    report = verify(PostgresSnapshots(reader))
    assert report.violations == ()
    assert all(check.checked for check in report.checks)


def test_one_state_is_read_whatever_is_written_meanwhile(ledger: AuditedLedger) -> None:
    ledger.post([event("first")])
    count = "SELECT count(*) FROM event"

    def work(snapshot: Snapshot) -> list[int]:
        seen = [snapshot.connection.execute(count).fetchone()[0]]
        ledger.database.change("DELETE FROM event")
        seen.append(snapshot.connection.execute(count).fetchone()[0])
        snapshot.renew()
        return [*seen, snapshot.connection.execute(count).fetchone()[0]]

    assert ledger.engine.snapshots().read(work, Findings()) == [1, 1, 0]


def test_a_stream_gives_every_row_in_its_order(good_ledger: PostgresDatabase) -> None:
    def work(snapshot: Snapshot) -> list[tuple[int, int]]:
        numbers = "SELECT * FROM generate_series(1, ?1::bigint)"
        streams = [snapshot.connection.stream(numbers, (5_001,)) for _ in range(2)]
        return [(one[0], other[0]) for one, other in zip(*streams, strict=True)]

    snapshots = PostgresSnapshots(good_ledger.address)
    assert snapshots.read(work, Findings()) == [(n, n) for n in range(1, 5_002)]


def test_what_is_no_ledger_is_refused() -> None:
    name = "no_ledger"
    admin().ask("postgres", f"CREATE DATABASE {name} OWNER bursar")
    try:
        with pytest.raises(InvalidInput, match="is no ledger"):
            verify(PostgresSnapshots(server().of(name)))
    finally:
        admin().ask("postgres", f"DROP DATABASE {name} WITH (FORCE)")
    with pytest.raises(InvalidInput, match="there is no database"):
        verify(PostgresSnapshots(server().of(name)))
    with pytest.raises(Unavailable, match="does not answer"):
        verify(PostgresSnapshots("postgresql://nobody@127.0.0.1:1/none"))
