"""The checks of `bursar doctor` on a database that many processes share."""

from collections.abc import Iterator

from bursar.cli.findings import Finding
from bursar.settings import Settings
from bursar.storage.postgres.state import DatabaseState

CROWDED = 0.8
"""From this share of the server's connections on, another process may find none."""

CLOCK_SKEW_S = 5.0


def database_findings(state: DatabaseState, settings: Settings) -> Iterator[Finding]:
    """Yield what is right and wrong with it. Of a database that cannot be used there is one line."""
    if state.fault:
        todo = "Start it, or mend database_url (BURSAR_DATABASE_URL)."
        yield Finding("database", "fail", state.fault, todo)
        return
    yield Finding("database", "ok", f"postgresql {state.version} at {state.place}")
    yield _durability(state)
    if state.remarks:
        yield from (Finding("role", "warn", remark, "See docs/scale.md.") for remark in state.remarks)
    else:
        yield Finding("role", "ok", "row-level security binds it")
    yield _schema(state)
    yield _connections(state, settings)
    yield _clock(state)


def _durability(state: DatabaseState) -> Finding:
    if state.is_durable:
        return Finding("durability", "ok", "fsync, full_page_writes and synchronous_commit are on")
    return Finding(
        "durability",
        "warn",
        "synchronous_commit is off for this role; our own writes turn it on",
        "Turn it on for the role, so that no other program's writes differ.",
    )


def _schema(state: DatabaseState) -> Finding:
    if state.is_newer:
        said = f"step {state.schema}: a newer release has finished its upgrade"
        return Finding("schema", "fail", said, "Use that release, or a newer one.")
    if state.schema is None:
        return Finding("schema", "warn", "there is none yet", "`bursar serve` or `bursar migrate` makes it.")
    if state.missing:
        said = f"step {state.schema}, newest is {state.newest_schema}: {state.missing} to run"
        return Finding("schema", "warn", said, "`bursar migrate` runs them, beside servers that work.")
    return Finding("schema", "ok", f"step {state.schema}, the newest")


def _connections(state: DatabaseState, settings: Settings) -> Finding:
    own = settings.connections_max
    pooled = "through a pooler in transaction mode" if settings.database_pooled else "directly"
    said = (
        f"each process takes up to {own}, {pooled}; {state.connections} of {state.connections_max} are in use"
    )
    if state.connections > CROWDED * state.connections_max:
        todo = "Raise max_connections, lower database_connections, or use a pooler (database_pooled)."
        return Finding("connections", "warn", said, todo)
    return Finding("connections", "ok", said)


def _clock(state: DatabaseState) -> Finding:
    side = "ahead" if state.clock_ahead_s >= 0 else "behind"
    said = f"the database's is {abs(state.clock_ahead_s):.1f} s {side}"
    if abs(state.clock_ahead_s) > CLOCK_SKEW_S:
        todo = "Set the clocks, and keep them set with NTP: calls are booked by the time they name."
        return Finding("clocks", "warn", said, todo)
    return Finding("clocks", "ok", said)
