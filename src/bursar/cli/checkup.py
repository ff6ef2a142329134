"""The checks of `bursar doctor`, each a sentence of what was found and, where needed, what to do.

Nothing here changes anything: a ledger whose schema is behind is reported, not migrated, and
a directory that is not there is not made.
"""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bursar
from bursar.cli.address import OPERATOR_TOKEN_NAME, is_locked, running_address
from bursar.cli.configuration import load_settings
from bursar.cli.connection import Connection, connect
from bursar.cli.failures import Failure
from bursar.cli.figures import count_text
from bursar.cli.findings import Finding
from bursar.cli.greeting import place_of
from bursar.cli.models import UnpricedList
from bursar.settings import Settings
from bursar.storage.sqlite.state import FileState, file_state, sqlite_version
from bursar.storage.sqlite.store import DATABASE_NAME

FREE_BYTES_MIN = 100 * 2**20
FREE_BYTES_GOOD = 2**30
SQLITE_OLDEST = (3, 38, 0)
"""The first SQLite with STRICT tables and the `->>` operator, which the schema uses."""

SQLITE_WAL_RESET_FIXED = (3, 51, 3)
"""Before it, a checkpoint by one connection may race with another's write."""

PRICE_LIST_OLD = timedelta(days=120)
AUDIT_LATE_S = 600
CLOCK_SKEW_S = 5.0
EARLIEST_YEAR = 2025


def check_up(data_dir: Path | None, org: str | None) -> list[Finding]:
    """Return every finding. Without good settings there is only one."""
    try:
        settings = load_settings(data_dir=data_dir, org=org)
    except Failure as failure:
        return [Finding("settings", "fail", failure.sentence, "`bursar check-config` shows every fault.")]
    findings = [Finding("settings", "ok", f"data in {place_of(settings)}"), *_versions()]
    return findings + list(_shared(settings, org) if settings.is_shared else _file(settings, org))


def _shared(settings: Settings, org: str | None) -> Iterator[Finding]:
    """Yield what is found of a database that many processes share."""
    # Only here: a file needs no driver.
    from bursar.cli.checkup_database import database_findings  # noqa: PLC0415
    from bursar.storage.postgres.state import database_state  # noqa: PLC0415

    state = database_state(settings.database_url)
    yield from database_findings(state, settings)
    if settings.operator_token:
        yield Finding("token", "ok", "from the settings, as every server of the database must have it")
    else:
        yield from _token(settings.data_dir)
    yield from _clock(None)
    if not (state.fault or state.missing or state.is_newer):
        # Opening one without a schema would make it: a check changes nothing.
        yield from _through_the_api(settings, org)


def _file(settings: Settings, org: str | None) -> Iterator[Finding]:
    """Yield what is found of a ledger file."""
    yield from _sqlite()
    yield from _disk(settings.data_dir)
    database = settings.data_dir / DATABASE_NAME
    if not database.exists():
        yield from _clock(None)
        todo = "`bursar serve` makes one, or name another directory with --data-dir."
        yield Finding("ledger", "warn", "there is none yet", todo)
        return
    state = file_state(database)
    yield from (*_schema(state), *_token(settings.data_dir), *_clock(database))
    if state.schema == state.newest_schema or is_locked(settings.data_dir):
        # Opening an older one now would migrate it: a check changes nothing.
        yield from _through_the_api(settings, org)


def _versions() -> Iterator[Finding]:
    yield Finding("bursar", "ok", f"{bursar.__version__} on Python {platform.python_version()}")


def _sqlite() -> Iterator[Finding]:
    version = sqlite_version()
    text = ".".join(map(str, version))
    if version < SQLITE_OLDEST:
        yield Finding("sqlite", "fail", f"{text} is too old", "Use a Python with SQLite 3.38 or newer.")
    elif version < SQLITE_WAL_RESET_FIXED:
        note = "its write-ahead-log race cannot happen here: one connection writes and checkpoints"
        yield Finding("sqlite", "ok", f"{text}; {note}")
    else:
        yield Finding("sqlite", "ok", text)


def _disk(data_dir: Path) -> Iterator[Finding]:
    there = next((path for path in (data_dir, *data_dir.resolve().parents) if path.exists()), data_dir)
    if not os.access(there, os.W_OK):
        yield Finding("directory", "fail", f"{there} cannot be written", "Give its user the right to write.")
        return
    free = shutil.disk_usage(there).free
    said = f"writable, {count_text(free // 2**20)} MiB free"
    if free < FREE_BYTES_MIN:
        yield Finding("directory", "fail", said, "Free space: without it nothing can be recorded.")
    elif free < FREE_BYTES_GOOD:
        yield Finding("directory", "warn", said, "Free space soon: below 1 GiB.")
    elif data_dir.exists() and data_dir.stat().st_mode & 0o077:
        yield Finding("directory", "warn", f"{said}, open to other users", f"chmod 700 {data_dir}")
    else:
        yield Finding("directory", "ok", said)


def _schema(state: FileState) -> Iterator[Finding]:
    if state.fault:
        todo = "Restore a backup, or look into it with `bursar ledger verify`; keep the file."
        yield Finding("schema", "fail", f"the ledger file cannot be read: {state.fault}", todo)
    elif state.schema == state.newest_schema:
        yield Finding("schema", "ok", f"step {state.schema}, the newest")
    elif state.schema is None or state.schema < state.newest_schema:
        said = f"step {state.schema or 'none'}, newest is {state.newest_schema}"
        yield Finding("schema", "warn", said, "The next start brings it up to date; keep a copy before.")
    else:
        said = f"step {state.schema} is newer than this release knows ({state.newest_schema})"
        yield Finding("schema", "fail", said, "Use the release that wrote it, or a newer one.")


def _token(data_dir: Path) -> Iterator[Finding]:
    path = data_dir / OPERATOR_TOKEN_NAME
    if not path.exists():
        yield Finding("token", "warn", "the operator's token is missing", "The next start makes a new one.")
    elif path.stat().st_mode & 0o077:
        yield Finding("token", "fail", "others may read the operator's token", f"chmod 600 {path}")
    else:
        yield Finding("token", "ok", "for its owner only")


def _clock(database: Path | None) -> Iterator[Finding]:
    now = datetime.now(UTC)
    said = now.isoformat(timespec="seconds")
    todo = "Set the clock, and keep it set with NTP: calls are booked by the time they name."
    if now.year < EARLIEST_YEAR:
        yield Finding("clock", "fail", f"{said} is in the past", todo)
    elif database is not None and database.stat().st_mtime > time.time() + CLOCK_SKEW_S:
        yield Finding("clock", "warn", f"{said}, but the ledger was written later than that", todo)
    else:
        yield Finding("clock", "ok", said)


def _through_the_api(settings: Settings, org: str | None) -> Iterator[Finding]:
    """Yield what the API itself says, through the server that runs or in process."""
    try:
        with connect(settings.data_dir, org) as connection:
            yield from _server(connection, settings)
            yield from _prices()
            yield from _unpriced(connection)
            yield from _audit(connection, settings)
    except Failure as failure:
        yield Finding("server", "fail", failure.sentence, failure.hint or "See the server's log.")


def _server(connection: Connection, settings: Settings) -> Iterator[Finding]:
    begun = time.perf_counter()
    ready = connection.get("/readyz", kind=dict[str, object])
    took_ms = round((time.perf_counter() - begun) * 1000)
    address = running_address(settings)
    if not settings.is_shared:
        holder = f"held by process {address.pid if address else '?'}, the server"
        yield Finding("lock", "ok", "free" if connection.is_in_process else holder)
    if connection.is_in_process:
        where = " with this data directory" if settings.is_shared else ""
        yield Finding("server", "ok", f"none runs{where}; commands open the ledger themselves")
    else:
        state = "ok" if ready.get("ready") else "fail"
        todo = "" if ready.get("ready") else "See the server's log."
        yield Finding("server", state, f"{connection.place} answers in {took_ms} ms", todo)


def _prices() -> Iterator[Finding]:
    from bursar.pricing.freshness import list_version, newest_price_day  # noqa: PLC0415 - loads prices

    today = datetime.now(UTC).date()
    newest = newest_price_day(today)
    said = f"price list {list_version()}, newest dated price of {newest or 'no day'}"
    if newest is None or today - newest > PRICE_LIST_OLD:
        yield Finding("prices", "warn", said, "Upgrade genai-prices: models sold since then are unpriced.")
    else:
        yield Finding("prices", "ok", said)


def _unpriced(connection: Connection) -> Iterator[Finding]:
    found = connection.get("/v1/models/unpriced", {"limit": 1000}, kind=UnpricedList).data
    if not found:
        yield Finding("unpriced", "ok", "every recorded call has a price")
        return
    requests = count_text(sum(one.requests for one in found))
    names = ", ".join(one.model for one in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""  # noqa: PLR2004 - as many as fit a line
    said = f"{requests} calls without a price: {names}{more}"
    yield Finding("unpriced", "warn", said, "`bursar models unpriced` says how each gets one.")


def _audit(connection: Connection, settings: Settings) -> Iterator[Finding]:
    if connection.is_in_process:
        yield Finding("audit", "ok", "runs with a server; `bursar ledger verify` proves everything now")
        return
    metrics = dict(
        line.rsplit(" ", 1) for line in connection.text("/metrics").splitlines() if line.startswith("ledger_")
    )
    violations = float(metrics.get("ledger_audit_violations", 0))
    audited_at = float(metrics.get("ledger_audited_timestamp_seconds", 0))
    if violations:
        todo = "`bursar ledger verify` lists them; keep a copy of the file."
        yield Finding("audit", "fail", f"{violations:.0f} sums disagree with their entries", todo)
    elif not audited_at and settings.is_shared:
        yield Finding("audit", "ok", "not by this process, or not yet: the one that runs the jobs says it")
    elif not audited_at:
        yield Finding("audit", "ok", "the server has just begun; its first audit is due within a minute")
    else:
        age_s = max(0, round(time.time() - audited_at))
        state = "ok" if age_s < AUDIT_LATE_S else "warn"
        todo = "" if state == "ok" else "See the server's log."
        yield Finding("audit", state, f"{age_s} s ago, nothing wrong", todo)
