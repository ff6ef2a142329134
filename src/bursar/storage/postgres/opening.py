"""A connection outside of the pools, and what a person is told when there is none.

For what happens seldom: the look at a database before it is used, changes of the schema, a new month.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import asyncpg

from bursar.core.errors import InvalidInput, Unavailable

CONNECT_S = 4.0
_SETTING = "database_url"


def place_of(address: str) -> str:
    """Return hosts, ports and database of an address: what may be shown, as the password may not."""
    parts = urlsplit(address)
    return f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Say what is wrong with the address, or that the server is away."""
    place = place_of(address)
    try:
        yield
    except asyncpg.InvalidCatalogNameError as error:
        sentence = f"there is no database {place}; make it with createdb, its owner the user of {_SETTING}"
        raise InvalidInput(sentence, field=_SETTING) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise InvalidInput(f"the database {place} refuses us: {error}", field=_SETTING) from error
    except asyncpg.InterfaceError as error:
        raise InvalidInput(f"{_SETTING} is not understood: {error}", field=_SETTING) from error
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        why = str(error) or "no answer in time"
        raise Unavailable(
            f"the database {place} does not answer ({why}); is it running, and is {_SETTING} right?"
        ) from error


@asynccontextmanager
async def connected(
    address: str, name: str = "bursar", *, command_s: float | None = CONNECT_S
) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection of our own; `name` is what the server calls it.

    Args:
        address: `postgresql://…`.
        name: For `pg_stat_activity`.
        command_s: How long a statement may take; None for one that may take hours.

    Raises:
        InvalidInput: The address leads nowhere, or we are refused there.
        Unavailable: The server does not answer.
    """
    with _told(address):
        own = await asyncpg.connect(
            address,
            timeout=CONNECT_S,
            command_timeout=command_s,
            statement_cache_size=0,
            server_settings={"application_name": name},
        )
    try:
        yield own
        await own.close(timeout=CONNECT_S)
    finally:
        own.terminate()  # does nothing to a closed one
