"""Change the schema of a PostgreSQL database, step by step, beside processes that work on it.

    guard        a transaction that holds the lock of all changes and does nothing else
    each step    in a transaction of its own, with the row in `schema_step` that says it is done

A run that was killed leaves whole steps; the next one does the rest. A step with a statement
that PostgreSQL runs outside of transactions only (CREATE INDEX CONCURRENTLY) is run statement
by statement; what a killed one left half-built is dropped first.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import asyncpg

from bursar.core.errors import Conflict, InvalidInput, Unavailable
from bursar.storage.migrations.steps import Phase, Step, StepState, postgres_steps
from bursar.storage.postgres import locks, partitions
from bursar.storage.postgres.opening import connected, place_of

LOCK_S = 1
"""How long a step waits for a table: while it waits, whoever comes after it waits too."""

TRIES = 60
PAUSE_S = 1.0

_HISTORY = """CREATE TABLE IF NOT EXISTS bursar.schema_step (
    step TEXT COLLATE "C" PRIMARY KEY, phase TEXT COLLATE "C" NOT NULL, applied_at BIGINT NOT NULL)"""
_HALF_BUILT = """SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'bursar' AND NOT i.indisvalid AND c.relkind = 'i'"""
_IN_SCHEMA = "SET search_path = bursar"

Say = Callable[[str], object]


class Applied:
    """What a database's history says.

    Attributes:
        at: When each step was run, microseconds UTC.
        phases: Each step's phase, those that this release does not know among them.
    """

    def __init__(self, rows: Sequence[asyncpg.Record]) -> None:
        self.at: dict[str, int] = {row["step"]: row["applied_at"] for row in rows}
        self.phases: dict[str, str] = {row["step"]: row["phase"] for row in rows}

    def missing(self, steps: Sequence[Step], phase: Phase | None = None) -> list[Step]:
        """Return the steps that were not run, of one phase or of both."""
        return [step for step in steps if step.name not in self.at and phase in {None, step.phase}]

    def check(self, steps: Sequence[Step], place: str) -> None:
        """See whether a process of this release may work here.

        Raises:
            InvalidInput: The schema is behind, or so far ahead that this release is done with.
        """
        for step in self.missing(steps, Phase.PRE):
            raise InvalidInput(
                f"the schema of {place} lacks step {step.name} ({step.title}): run `bursar migrate`"
            )
        unknown = self.phases.keys() - {step.name for step in steps}
        if beyond := [name for name in unknown if self.phases[name] != Phase.PRE]:
            raise InvalidInput(
                f"a newer release has finished its upgrade of {place} (step {max(beyond)}): "
                "this one can no longer work with it; use that release, or a newer one"
            )


async def applied(own: asyncpg.Connection) -> Applied | None:
    """Return a database's history, None where nothing of ours is."""
    async with own.transaction():
        if not await own.fetchval("SELECT to_regclass('bursar.schema_step') IS NOT NULL"):
            return None
        return Applied(await own.fetch("SELECT step, phase, applied_at FROM bursar.schema_step"))


async def states(address: str, steps: Sequence[Step] | None = None) -> list[StepState]:
    """Return every step, and when it was run here."""
    async with connected(address, "bursar migrate") as own:
        history = await applied(own) or Applied([])
    known = postgres_steps() if steps is None else steps
    return [StepState(step, history.at.get(step.name)) for step in known]


async def migrate(
    address: str,
    *,
    phase: Phase | None = None,
    steps: Sequence[Step] | None = None,
    say: Say = lambda _line: None,
) -> list[Step]:
    """Run the missing steps and return them.

    Args:
        address: `postgresql://…`.
        phase: Run only those of one.
        steps: In place of this release's.
        say: Hears what it waits for, and each step as it begins.

    Raises:
        Conflict: Steps of `post` are asked for while some of `pre` are missing.
        InvalidInput: The user may not change the schema, or there is something else of its name.
        Unavailable: The server is away, or a table is kept from us for too long.
    """
    known = tuple(postgres_steps() if steps is None else steps)
    async with connected(address, "bursar migrate", command_s=None) as guard, guard.transaction():
        await guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0")
        if not await locks.taken(guard, locks.MIGRATION):
            say("another process changes the schema; waiting for it")
            await guard.execute(f"SELECT pg_advisory_xact_lock{locks.MIGRATION}")
        async with connected(address, "bursar migrate", command_s=None) as own:
            return await _run_missing(own, known, phase, place_of(address), say)


async def _run_missing(
    own: asyncpg.Connection, known: Sequence[Step], phase: Phase | None, place: str, say: Say
) -> list[Step]:
    history = await applied(own) or Applied([])
    if phase is Phase.POST and (before := history.missing(known, Phase.PRE)):
        raise Conflict(
            f"step {before[0].name} of phase pre is missing; run `bursar migrate --phase pre` first"
        )
    missing = history.missing(known, phase)
    for step in missing:
        say(f"{step.name} {step.phase}: {step.title}")
        try:
            await _run(own, step)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.DuplicateObjectError) as error:
            raise InvalidInput(f"step {step.name} cannot be run on {place}: {error}") from error
        except asyncpg.DuplicateTableError as error:
            raise InvalidInput(f"something else lives in the schema bursar of {place}: {error}") from error
        except (asyncpg.LockNotAvailableError, asyncpg.PostgresConnectionError, OSError) as error:
            raise Unavailable(f"step {step.name} was not finished ({error}); run it again") from error
    return missing


async def _run(own: asyncpg.Connection, step: Step) -> None:
    if any(" CONCURRENTLY " in statement for statement in step.postgres):
        await _run_in_the_open(own, step)
        return
    for left in reversed(range(TRIES)):
        try:
            async with own.transaction():
                await _run_whole(own, step)
        except asyncpg.LockNotAvailableError:
            if not left:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def _run_whole(own: asyncpg.Connection, step: Step) -> None:
    await own.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'; SET LOCAL statement_timeout = 0")
    if not await own.fetchval("SELECT to_regnamespace('bursar') IS NOT NULL"):
        await own.execute("CREATE SCHEMA bursar")
    await own.execute(_IN_SCHEMA.replace("SET", "SET LOCAL"))
    await own.execute(_HISTORY)
    for statement in step.postgres:
        await own.execute(statement)
    await partitions.make(own, partitions.months_ahead(_now()))
    await _note(own, step)


async def _run_in_the_open(own: asyncpg.Connection, step: Step) -> None:
    """Run statements that no transaction may hold; each must do nothing when it was done before."""
    async with own.transaction():
        half_built = await own.fetch(_HALF_BUILT)
    for (name,) in half_built:
        await own.execute(f"DROP INDEX CONCURRENTLY {name}")
    for statement in step.postgres:
        await own.execute(statement)
    async with own.transaction():
        await _note(own, step)


async def _note(own: asyncpg.Connection, step: Step) -> None:
    await own.execute(
        "INSERT INTO bursar.schema_step (step, phase, applied_at) VALUES ($1, $2, $3)",
        step.name,
        step.phase.value,
        _now(),
    )


def _now() -> int:
    return time.time_ns() // 1_000
