"""Prove the history: corrections pair up, batches account for all, numbers have no gap."""

from itertools import groupby
from operator import itemgetter

import msgspec

from bursar.ledger.rows import ENTRY_COLUMNS
from bursar.storage.sql.columns import ENTRY_COLUMN_LIST
from bursar.storage.sql.verify_ports import Sums
from bursar.storage.sql.verify_scope import Scope, key_text, pairs

_CHAIN = f"""SELECT key, seq, sign, revision, reason, corrects, {ENTRY_COLUMN_LIST}
    FROM entry WHERE org = ?1 ORDER BY key, seq"""
_HEAD = 6
_CORRECTED = f"""SELECT k.key, k.revision, {", ".join(f"e.{name}" for name in ENTRY_COLUMNS)}
    FROM (SELECT DISTINCT key FROM entry WHERE org = ?1) AS c
    JOIN event_key k ON k.org = ?1 AND k.key = c.key
    LEFT JOIN event e ON e.org = ?1 AND e.occurred_at = k.occurred_at AND e.key = k.key ORDER BY k.key"""
_EVENTS = "SELECT count(*) FROM event WHERE org = ?1"
_KEYS = "SELECT count(*) FROM event_key WHERE org = ?1"
_ORPHANS = """SELECT k.key, k.occurred_at FROM event_key k WHERE k.org = ?1 AND NOT EXISTS (
    SELECT 1 FROM event e WHERE e.org = ?1 AND e.occurred_at = k.occurred_at AND e.key = k.key)"""
_PROMPTS = """SELECT p.key, p.occurred_at FROM prompt p WHERE p.org = ?1 AND NOT EXISTS (
    SELECT 1 FROM event e WHERE e.org = ?1 AND e.occurred_at = p.occurred_at AND e.key = p.key)"""
_BATCHES = "SELECT seq, events, entries, hours FROM batch WHERE org = ?1 ORDER BY seq"
_NUMBERED = {
    "batch": ("batches", "SELECT count(*), min(seq), max(seq) FROM batch WHERE org = ?1"),
    "entry": ("corrections", "SELECT count(*), min(seq), max(seq) FROM entry WHERE org = ?1"),
    "quarantine": ("logs", "SELECT count(*), min(seq), max(seq) FROM quarantine WHERE org = ?1"),
    "audit": ("logs", "SELECT count(*), min(seq), max(seq) FROM audit WHERE org = ?1"),
}


def check_numbers(scope: Scope) -> None:
    """Check that batches, entries, quarantine and audit log are numbered from 1 without a gap."""
    for table, (check, sql) in _NUMBERED.items():
        count, first, last = scope.rows(sql).fetchone()
        if count and (first, last) != (1, count):
            scope.differs(check, table, "seq", expected=f"1 to {count}", found=f"{first} to {last}")
        if check == "logs":
            scope.findings.checked(check, count)


def check_key_counts(scope: Scope) -> None:
    """Check that no key and no prompt is without its event.

    Each event has its key (`verify_rows`), and no two events share one, so equal counts prove
    it for keys; only unequal ones are looked for.
    """
    keys = scope.number(_KEYS)
    scope.findings.checked("keys", keys)
    if keys != scope.number(_EVENTS):
        for key, occurred_at in scope.stream(_ORPHANS):
            where = key_text(["key"], [key])
            scope.differs("keys", "event_key", where, expected=f"an event at {occurred_at}", found=None)
    for key, occurred_at in scope.stream(_PROMPTS):
        where = key_text(["occurred_at", "key"], [occurred_at, key])
        scope.differs("keys", "prompt", where, expected="an event", found=None)


def check_corrections(scope: Scope) -> None:
    """Check each key's chain: reversal of what stood, new post, and so on to its revision."""
    known_keys = scope.stream(_CORRECTED)
    known = next(known_keys, None)
    for key, rows in groupby(scope.stream(_CHAIN), key=itemgetter(0)):
        own = known if known is not None and known[0] == key else None
        event = own[2:] if own is not None and own[2] is not None else None
        revision = _walk(scope, key, event, list(rows))
        scope.findings.checked("revisions", 1)
        if own is None:
            continue
        if revision != own[1]:
            where = key_text(["key"], [key])
            scope.differs("revisions", "event_key", where, expected=revision, found=own[1])
        known = next(known_keys, None)


def check_batches(scope: Scope, sums: Sums) -> None:
    """Compare batches with what was gathered, which must have been everything."""
    counted = (_batch(number, list(rows)) for number, rows in
               groupby(sums.batches(scope.org), key=itemgetter(0)))  # fmt: skip
    seen = 0
    for expected, found in pairs(counted, scope.stream(_BATCHES), 1):
        seen += 1
        if expected != found:
            where = key_text(["seq"], (expected or found or ())[:1])
            scope.differs(
                "batches", "batch", where, expected=expected and expected[1:], found=found and found[1:]
            )
    scope.findings.checked("batches", seen)


def _batch(number: int, rows: list[tuple[int, ...]]) -> tuple[object, ...]:
    """Return a batch's row as it must be: events, entries, and the hours as its JSON text."""
    _, hours, events, entries = zip(*rows, strict=True)
    text = msgspec.json.encode(sorted(set(hours))).decode()
    return (number, sum(events), sum(entries), text)


def _walk(
    scope: Scope, key: bytes, event: tuple[object, ...] | None, entries: list[tuple[object, ...]]
) -> object:
    """Check one key's entries in order; return the revision they end at."""
    scope.findings.checked("corrections", len(entries))
    standing, number, revision = event, None, None
    for place in range(0, len(entries), 2):
        pair = entries[place : place + 2]
        fault = _pair_fault(pair, standing, number, revision)
        if fault:
            where = key_text(["seq", "key"], [pair[0][1], key])
            scope.differs("corrections", "entry", where, expected=fault[0], found=fault[1])
        standing, number, revision = pair[-1][_HEAD:], pair[-1][1], pair[-1][3]
    return revision


def _pair_fault(
    pair: list[tuple[object, ...]], standing: tuple[object, ...] | None, number: object, revision: object
) -> tuple[object, object] | None:
    """Return what a reversal and its post should be and are not, None when all is well."""
    if [entry[2] for entry in pair] != [-1, 1] or pair[1][1] != int(str(pair[0][1])) + 1:
        return "a reversal and, next, its post", [(entry[1], entry[2]) for entry in pair]
    reversal, post = pair
    if reversal[3:6] != post[3:6] or reversal[5] != number or reversal[_HEAD + 2] != post[_HEAD + 2]:
        return (f"both correct {number}, alike in revision, reason and batch", (reversal[3:6], post[3:6]))
    if standing is None or _effect(reversal) != (standing[:2] + standing[3:]):
        return (f"the effect that stood, {standing}", reversal[_HEAD:])
    if revision is not None and _falls(revision, reversal):
        return f"a revision above {revision}", reversal[3]
    return None


def _falls(revision: object, entry: tuple[object, ...]) -> bool:
    """Whether an entry's revision does not follow `revision`: a caller's rises, others may stay."""
    now, before = int(str(entry[3])), int(str(revision))
    return now <= before if entry[4] == "revision" else now < before


def _effect(entry: tuple[object, ...]) -> tuple[object, ...]:
    """Return an entry's row without its batch, which tells when it was posted, not what."""
    return entry[_HEAD : _HEAD + 2] + entry[_HEAD + 3 :]
