"""Prove what the ledger rests on: organisations, and API keys with their hashes."""

from bursar.ledger.verification import Findings, Violation
from bursar.storage.sql.ports import Connection
from bursar.storage.sql.verify_ports import Snapshot
from bursar.storage.sql.verify_scope import Scope

_ORGANISATIONS = "SELECT org FROM organisation ORDER BY org"
_HASH_BYTES = 32
_UNHASHED = """SELECT k.api_key, k.hash, h.api_key FROM api_key k
    LEFT JOIN api_key_hash h ON h.hash = k.hash AND h.org = k.org
    WHERE k.org = ?1 AND (h.api_key IS NULL OR h.api_key <> k.api_key OR length(k.hash) <> ?2)"""
_UNKEYED = """SELECT h.api_key, h.hash FROM api_key_hash h
    LEFT JOIN api_key k ON k.org = h.org AND k.api_key = h.api_key
    WHERE h.org = ?1 AND (k.hash IS NULL OR k.hash <> h.hash)"""
_HALF_REVOKED = """SELECT api_key, is_active, revoked_at FROM api_key
    WHERE org = ?1 AND is_active <> CASE WHEN revoked_at IS NULL THEN 1 ELSE 0 END"""
_SEEKS = """WITH RECURSIVE found (org) AS (
    SELECT min(org) FROM {0}
    UNION ALL SELECT (SELECT min(t.org) FROM {0} t WHERE t.org > found.org) FROM found
        WHERE found.org IS NOT NULL)
    SELECT org FROM found WHERE org IS NOT NULL"""
_API_KEYS = "SELECT count(*) FROM api_key WHERE org = ?1"


def organisations(snapshot: Snapshot, findings: Findings) -> list[int]:
    """Return every organisation that has a row anywhere, and check that each exists."""
    connection = snapshot.connection
    known = {org for (org,) in connection.execute(_ORGANISATIONS)}
    findings.checked("organisations", len(known))
    seen = set(known)
    for table in snapshot.tables():
        for org in _organisations_in(connection, table):
            if org not in known:
                findings.add(
                    Violation("organisations", org, table, f"org={org}", "an organisation", "nothing")
                )
            seen.add(org)
    return sorted(seen)


def check_api_keys(scope: Scope) -> None:
    """Check that keys and hashes match one to one, and that a revoked key is not active."""
    for number, digest, other in scope.rows(_UNHASHED, _HASH_BYTES):
        scope.differs("api_keys", "api_key", f"api_key={number}", expected=digest, found=other)
    for number, digest in scope.rows(_UNKEYED):
        scope.differs(
            "api_keys", "api_key_hash", f"api_key={number}", expected="a key with this hash", found=digest
        )
    for number, active, revoked_at in scope.rows(_HALF_REVOKED):
        found = f"is_active {active}, revoked_at {revoked_at}"
        scope.differs("api_keys", "api_key", f"api_key={number}", expected="active or revoked", found=found)
    scope.findings.checked("api_keys", scope.number(_API_KEYS))


def _organisations_in(connection: Connection, table: str) -> list[int]:
    """Return the organisations of a table by one seek each, not by a scan."""
    if table == "api_key_hash":  # its key is the hash; it is small
        return [org for (org,) in connection.execute("SELECT DISTINCT org FROM api_key_hash")]
    return [org for (org,) in connection.execute(_SEEKS.format(table))]
