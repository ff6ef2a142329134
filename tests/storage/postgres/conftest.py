"""Databases on PostgreSQL alone: one with the schema, one with nothing in it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from support.engines import PostgresDatabase

Result = TypeVar("Result")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A database with the schema."""
    made = PostgresDatabase(tmp_path / "data")
    yield made
    made.drop()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A database with nothing in it."""
    made = PostgresDatabase(tmp_path / "bare", "template1")
    yield made
    made.drop()


def as_bursar(address: str, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """Do something on a connection of the product's own role."""

    async def run() -> Result:
        own = await asyncpg.connect(address, server_settings={"search_path": "bursar"})
        try:
            return await work(own)
        finally:
            await own.close()

    return asyncio.run(run())
