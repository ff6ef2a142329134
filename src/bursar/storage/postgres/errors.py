"""What PostgreSQL and its driver say, as our errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from bursar.core.errors import AmountOverflow, StorageFull, Unavailable

RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""40P01 and 40001: the transaction left nothing behind, and a second try mostly goes through."""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    OSError,  # `TimeoutError` is one
)
_ENDED = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,  # its end arrived while nothing was asked
    OSError,
)
_CLOSED = "connection is closed"
"""What the driver says of a connection that ended before the call; its other complaints are defects."""
_BEYOND_64_BITS = "out of int64 range"
_OVERFLOW = "a total would leave 64 bits (9.2e9 US dollars)"


def is_ended(error: BaseException) -> bool:
    """Whether the server, or something between, had ended the connection that says so."""
    return _is_closed(error) or (isinstance(error, _ENDED) and not isinstance(error, TimeoutError))


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the database says into our errors; anything else is a defect and passes through."""
    try:
        yield
    except asyncpg.NumericValueOutOfRangeError as error:
        raise AmountOverflow(_OVERFLOW) from error
    except asyncpg.DataError as error:
        if _BEYOND_64_BITS in str(error):
            raise AmountOverflow(_OVERFLOW) from error
        raise
    except asyncpg.DiskFullError as error:
        raise StorageFull(f"the database's disk is full ({error}); free space, nothing is lost") from error
    except RETRIED as error:
        raise Unavailable("the database had to undo this twice; try again") from error
    except asyncpg.QueryCanceledError as error:
        raise Unavailable("the database took too long for this; ask for less, or try again") from error
    except _AWAY as error:
        raise _unavailable(error) from error
    except asyncpg.InterfaceError as error:
        if not _is_closed(error):
            raise
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"the database does not answer ({type(error).__name__}); try again")


def _is_closed(error: BaseException) -> bool:
    return isinstance(error, asyncpg.InterfaceError) and _CLOSED in str(error)
