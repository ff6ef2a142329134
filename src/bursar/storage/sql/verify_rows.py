"""Prove each event and entry for itself: its key, its cost, its price, its place in a list.

The computed cost is worked out again from the card's stored lines. One row at a time, in
ranges of time; only the rate cards are held in memory.
"""

from collections.abc import Iterable
from operator import mul
from typing import Any, NamedTuple

import msgspec

from bursar.core.money import NUSD_MAX
from bursar.core.usage import RateLine, ServiceTier
from bursar.ledger.rows import COUNTS_COMPUTED, COUNTS_NOTHING, COUNTS_REPORTED
from bursar.pricing.cards import CompiledCard, compile_card, rate_card
from bursar.pricing.units import RATE_SCALE
from bursar.storage.sql.verify_scope import COUNTS_OF, Scope, key_text

Cards = dict[int, CompiledCard]
Row = tuple[Any, ...]

_decode_lines = msgspec.json.Decoder(tuple[RateLine, ...]).decode
_decode_media = msgspec.json.Decoder(dict[str, int]).decode


class Rules(NamedTuple):
    """What rows are held against: the organisation's cards and API keys; and which rows.

    `one_in` takes a sample by time, those that leave `rest` when divided by it; 1 takes all.
    """

    cards: Cards
    api_keys: frozenset[int]
    one_in: int = 1
    rest: int = 0


_MEDIA = (
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "web_searches",
)
_NO_MEDIA = (0, 0, 0, 0, 0)
_RANGE = "WHERE org = ?1 AND occurred_at >= ?2 AND occurred_at < ?3"
_PRICED = """occurred_at, key, flags, reported_nusd, computed_nusd, card, media, api_key,
    input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens"""
_SAMPLE = "AND abs(occurred_at % ?4) = ?5"
_TABLES = {
    "event": f"SELECT {_PRICED} FROM event {_RANGE} {_SAMPLE}",
    "entry": f"SELECT {_PRICED} FROM entry {_RANGE} {_SAMPLE}",
}
_UNKEYED = """SELECT e.occurred_at, e.key, k.occurred_at FROM event e
    LEFT JOIN event_key k ON k.org = ?1 AND k.key = e.key
    WHERE e.org = ?1 AND (k.occurred_at IS NULL OR k.occurred_at <> e.occurred_at)"""
_KNOWN_AT = "(SELECT k.occurred_at FROM event_key k WHERE k.org = ?1 AND k.key = e.key)"
# A subquery in place of a join is a seek for each event of the range, and never a scan of all keys.
_UNKEYED_BETWEEN = f"""SELECT e.occurred_at, e.key, {_KNOWN_AT} FROM event e
    WHERE e.org = ?1 AND e.occurred_at >= ?2 AND e.occurred_at < ?3
    AND coalesce({_KNOWN_AT}, ~e.occurred_at) <> e.occurred_at"""
_LISTED = """SELECT 1 FROM unpriced_event u
    WHERE u.org = ?1 AND u.model = s.model AND u.occurred_at = s.occurred_at AND u.key = s.key"""
_STANDING = f"""SELECT model, occurred_at, key FROM event e {_RANGE} AND {COUNTS_OF} = 0
        AND NOT EXISTS (SELECT 1 FROM entry c WHERE c.org = ?1 AND c.key = e.key)
    UNION ALL
    SELECT model, occurred_at, key FROM entry e {_RANGE} AND sign = 1 AND {COUNTS_OF} = 0
        AND seq = (SELECT max(seq) FROM entry c INDEXED BY entry_by_key
            WHERE c.org = ?1 AND c.key = e.key AND c.sign = 1)"""
_UNLISTED = f"SELECT model, occurred_at, key FROM ({_STANDING}) AS s WHERE NOT EXISTS ({_LISTED})"
_LIST = "SELECT count(*) FROM unpriced_event WHERE org = ?1"
_LAST_POST = """(SELECT max(seq) FROM entry c INDEXED BY entry_by_key
    WHERE c.org = ?1 AND c.key = u.key AND c.sign = 1)"""
# What stands is the last post or, where nothing was corrected, the event itself.
_MISLISTED = f"""SELECT model, occurred_at, key FROM unpriced_event u WHERE u.org = ?1
    AND NOT EXISTS (SELECT 1 FROM event e WHERE e.org = ?1 AND e.occurred_at = u.occurred_at
        AND e.key = u.key AND e.model = u.model AND {COUNTS_OF} = {COUNTS_NOTHING} AND {_LAST_POST} IS NULL)
    AND NOT EXISTS (SELECT 1 FROM entry p WHERE p.org = ?1 AND p.seq = {_LAST_POST}
        AND p.key = u.key AND p.occurred_at = u.occurred_at AND p.model = u.model
        AND {COUNTS_OF} = {COUNTS_NOTHING})"""
_CARDS = "SELECT card, digest, provider, model, service_tier, lines, origin FROM rate_card WHERE org = ?1"
_API_KEYS = "SELECT api_key FROM api_key WHERE org = ?1"


def load_cards(scope: Scope) -> Cards:
    """Return the organisation's compiled cards, and check each against its digest."""
    cards: Cards = {}
    for number, digest, provider, model, tier, lines, origin in scope.rows(_CARDS):
        try:
            card = rate_card(provider, model, ServiceTier(tier), _decode_lines(lines), origin)
        except (ValueError, KeyError) as error:
            scope.differs("cards", "rate_card", f"card={number}", expected="a rate card", found=error)
            continue
        if card.digest != digest:
            scope.differs("cards", "rate_card", f"card={number}: digest", expected=card.digest, found=digest)
        cards[number] = compile_card(card)
    scope.findings.checked("cards", len(cards))
    return cards


def load_api_keys(scope: Scope) -> frozenset[int]:
    """Return the numbers of the organisation's API keys, and 0 for none."""
    return frozenset([0, *(number for (number,) in scope.rows(_API_KEYS))])


def load_rules(scope: Scope) -> Rules:
    """Return what the organisation's rows are held against."""
    return Rules(load_cards(scope), load_api_keys(scope))


def check_rows(scope: Scope, start: int, end: int, rules: Rules) -> None:
    """Check cost, price, card and API key of every event and entry of the range."""
    for table, sql in _TABLES.items():
        seen = 0
        for row in scope.stream(sql, start, end, rules.one_in, rules.rest):
            seen += 1
            _check_row(scope, table, row, rules.cards)
            if row[7] not in rules.api_keys:
                scope.differs("api_keys", table, _key(row), expected=f"api key {row[7]}", found=None)
        for check in ("costs", "prices"):
            scope.findings.checked(check, seen)


def check_keys(scope: Scope, start: int, end: int) -> None:
    """Check that each event of the range has its key, with its time."""
    _note_unkeyed(scope, scope.stream(_UNKEYED_BETWEEN, start, end))


def check_all_keys(scope: Scope) -> None:
    """Check the same of all events at once, which costs less than all ranges."""
    _note_unkeyed(scope, scope.stream(_UNKEYED))


def _note_unkeyed(scope: Scope, found: Iterable[Row]) -> None:
    for occurred_at, key, known_at in found:
        where = key_text(["occurred_at", "key"], [occurred_at, key])
        scope.differs("keys", "event_key", where, expected=occurred_at, found=known_at)


def check_unlisted(scope: Scope, start: int, end: int) -> None:
    """Check that what stands without a cost in the range is listed as unpriced."""
    for row in scope.stream(_UNLISTED, start, end):
        where = key_text(["model", "occurred_at", "key"], row)
        scope.differs("unpriced", "unpriced_event", where, expected="listed", found=None)


def check_listed(scope: Scope) -> None:
    """Check that everything listed as unpriced stands without a cost."""
    for row in scope.stream(_MISLISTED):
        where = key_text(["model", "occurred_at", "key"], row)
        expected = "priced, or no such event"
        scope.differs("unpriced", "unpriced_event", where, expected=expected, found="listed")
    scope.findings.checked("unpriced", scope.number(_LIST))


def _check_row(scope: Scope, table: str, row: Row, cards: Cards) -> None:
    flags, reported, computed, number = row[2:6]
    card = cards.get(number)
    if card is None and number:
        scope.differs("cards", table, _key(row), expected=f"rate card {number}", found=None)
        return
    counts = flags >> 14 & 3
    if counts not in _possible_counts(reported, computed):
        found = f"flags say {counts}, reported {reported}, computed {computed}"
        scope.differs("costs", table, _key(row), expected="a cost that is kept counts", found=found)
    try:
        worked_out = None if card is None else _computed_nusd(card, row)
    except msgspec.DecodeError as error:
        scope.differs("prices", table, _key(row), expected="units as JSON", found=error)
        return
    if card is not None and card.card.service_tier != flags >> 4 & 15:
        scope.differs(
            "prices", table, _key(row), expected=f"tier {flags >> 4 & 15}", found=card.card.service_tier
        )
    elif worked_out != computed:
        scope.differs("prices", table, _key(row), expected=worked_out, found=computed)


def _possible_counts(reported: int | None, computed: int | None) -> frozenset[int]:
    """Return what `flags` may say under any cost basis, given the two costs.

    The basis at the time is not kept, so the check asks what some basis would have said.
    Unpriced although both are known is nothing that any of them says.
    """
    possible = {COUNTS_COMPUTED} if computed is not None and computed != reported else set()
    possible |= {COUNTS_REPORTED} if reported is not None else set()
    possible |= {COUNTS_NOTHING} if reported is None or computed is None else set()
    return frozenset(possible)


def _computed_nusd(card: CompiledCard, row: Row) -> int | None:
    """Return units × rate by the card, rounded up once; None where a used unit has no rate."""
    media = _NO_MEDIA
    if row[6] is not None:
        units = _decode_media(row[6])
        media = tuple(units.get(unit, 0) for unit in _MEDIA)  # type: ignore[assignment]
    tokens = row[8:14]
    context = tokens[0] + sum(tokens[3:]) + media[0] + media[2]
    total = sum(map(mul, (*tokens, *media, 1), card.rates_for(context)))
    return None if total > NUSD_MAX * RATE_SCALE else -(-total // RATE_SCALE)


def _key(row: Row) -> str:
    return key_text(["occurred_at", "key"], row[:2])
