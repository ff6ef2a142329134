"""What a process does when it meets a database: makes it ready, or says in a sentence why it will not do."""

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from bursar.core.errors import AppError, InvalidInput, Unavailable
from bursar.settings import Settings
from bursar.storage.postgres.engine import PostgresEngine
from bursar.storage.postgres.fitness import made_fit
from bursar.wiring.engines import open_engine
from support import services
from support.engines import PostgresDatabase, admin, is_missing, server
from support.services import Service

NOW = 1_772_409_600_000_000


def opened(postgres: PostgresDatabase, address: str = "") -> PostgresEngine:
    engine = open_engine(Settings(database_url=address or postgres.address), lambda: NOW)
    assert isinstance(engine, PostgresEngine)
    return engine


def refusal(address: str, kind: type[AppError]) -> str:
    with pytest.raises(kind) as refused:
        asyncio.run(made_fit(address, NOW, is_pooled=False))
    return refused.value.detail


def test_an_empty_database_is_made_ready_and_says_what_it_is(bare: PostgresDatabase) -> None:
    engine = opened(bare)
    version = bare.rows("SHOW server_version")[0][0].split()[0]
    assert engine.version == f"postgresql {version}"
    assert (engine.remarks, engine.last_decided_at()) == ((), 0)
    assert bare.rows("SELECT count(*) FROM bursar.organisation") == [(0,)]
    assert bare.rows("SELECT to_regclass('bursar.event_2026_03') IS NOT NULL") == [(True,)]


async def test_several_processes_that_meet_an_empty_database_make_it_once(bare: PostgresDatabase) -> None:
    await asyncio.gather(*(made_fit(bare.address, NOW, is_pooled=False) for _ in range(5)))
    assert bare.rows("SELECT count(*) > 0 FROM bursar.schema_step") == [(True,)]


def test_the_latest_decision_of_any_process_is_known(postgres: PostgresDatabase) -> None:
    postgres.change("INSERT INTO bursar.decision_clock VALUES (1, 5), (2, 9)")
    assert opened(postgres).last_decided_at() == 9


def test_an_older_schema_asks_for_migrate(postgres: PostgresDatabase) -> None:
    postgres.change("DELETE FROM bursar.schema_step WHERE step = '0007'")
    sentence = refusal(postgres.address, InvalidInput)
    assert "lacks step 0007" in sentence
    assert sentence.endswith("run `bursar migrate`")


def test_a_newer_schema_will_do_until_its_upgrade_was_finished(postgres: PostgresDatabase) -> None:
    postgres.change("INSERT INTO bursar.schema_step VALUES ('9001', 'pre', 1)")
    assert opened(postgres).version.startswith("postgresql ")
    postgres.change("INSERT INTO bursar.schema_step VALUES ('9002', 'post', 1)")
    assert "a newer release has finished its upgrade" in refusal(postgres.address, InvalidInput)


def test_a_role_that_no_fence_binds_is_remarked(postgres: PostgresDatabase) -> None:
    (remark,) = opened(postgres, server().of(postgres.name, as_admin=True)).remarks
    assert "row-level security does not bind the role" in remark


def test_where_there_is_no_database_the_sentence_says_what_to_do(postgres: PostgresDatabase) -> None:
    missing = server().of("nothing_of_this_name")
    assert "make it with createdb" in refusal(missing, InvalidInput)
    host, _, database = postgres.address.rpartition("/")
    wrong = f"{host.replace('bursar:', f'bursar:{secrets.token_hex(4)}')}/{database}"
    told = refusal(wrong, InvalidInput)
    assert "refuses us" in told
    away = refusal("postgresql://bursar:hidden@127.0.0.1:9/bursar", Unavailable)
    assert "127.0.0.1:9/bursar does not answer" in away
    assert "hidden" not in away + told


def test_text_in_another_encoding_is_refused() -> None:
    name = f"t_{secrets.token_hex(8)}"
    admin().ask(
        "postgres", f"CREATE DATABASE {name} OWNER bursar ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
    )
    try:
        assert "its encoding is LATIN1" in refusal(server().of(name), InvalidInput)
    finally:
        admin().ask("postgres", f"DROP DATABASE {name}")


@pytest.fixture
def own_server() -> Iterator[Service]:
    """A server of this test's own, since it is made unsafe."""
    if is_missing():
        pytest.skip("no PostgreSQL here")
    with tempfile.TemporaryDirectory(dir=services.folder_for_tests().parent) as folder:
        Path(folder).chmod(0o755)
        service = services.start(Path(folder) / "own")
        yield service
        services.throw_away(Path(folder) / "own")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_confirmed_is_refused(own_server: Service, setting: str) -> None:
    assert asyncio.run(made_fit(own_server.address, NOW, is_pooled=False)).remarks == ()
    asyncio.run(_set(own_server.admin, setting, "off"))
    assert f"{setting} is off" in refusal(own_server.address, InvalidInput)


async def _set(address: str, setting: str, value: str) -> None:
    own = await asyncpg.connect(address)
    await own.execute(f"ALTER SYSTEM SET {setting} = {value}")
    await own.execute("SELECT pg_reload_conf()")
    for _ in range(200):
        if await own.fetchval(f"SHOW {setting}") == value:
            break
        await asyncio.sleep(0.05)
    await own.close()
