"""Names to row numbers, per organisation, made on first use.

Each kind has a cap (agents 10⁴, others 10⁵). Beyond it a name counts as `(other)`, its
text stays in the event's attributes, and nothing is lost but a separate line in reports.
The cache holds whole subjects, so that the hot path looks up one tuple an event.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from bursar.core.ids import Org, new_id
from bursar.core.usage import Price, RateCard, Subject, UsageEvent
from bursar.ledger.rows import Refs
from bursar.storage.sql.ports import Connection

Canonicalise = Callable[[str, str], tuple[str, str]]
"""(provider, model as sent) → (canonical provider, canonical model)."""

OTHER = 1
OTHER_NAME = "(other)"
SUBJECTS_CACHED_MAX = 50_000
NAMES_CACHED_MAX = 50_000
CARDS_CACHED_MAX = 10_000


class Limits(NamedTuple):
    """How many names of a kind one organisation may have; beyond, they count as `(other)`."""

    agents: int = 10_000
    others: int = 100_000


DEFAULT_LIMITS = Limits()

_INSERT = {
    "agent": """INSERT INTO agent (org, agent, name, id, display_name, created_at)
        VALUES (?1, ?2, ?3, ?5, ?3, ?4)""",
    "project": """INSERT INTO project (org, project, name, id, display_name, created_at)
        VALUES (?1, ?2, ?3, ?5, ?3, ?4)""",
    "feature": "INSERT INTO feature (org, feature, name, created_at) VALUES (?, ?, ?, ?)",
    "user": "INSERT INTO user_label (org, user, name, created_at) VALUES (?, ?, ?, ?)",
}
_FIND = {
    "agent": "SELECT agent FROM agent WHERE org = ? AND name = ?",
    "project": "SELECT project FROM project WHERE org = ? AND name = ?",
    "feature": "SELECT feature FROM feature WHERE org = ? AND name = ?",
    "user": "SELECT user FROM user_label WHERE org = ? AND name = ?",
}
_LAST = {
    "agent": "SELECT max(agent) FROM agent WHERE org = ?",
    "project": "SELECT max(project) FROM project WHERE org = ?",
    "feature": "SELECT max(feature) FROM feature WHERE org = ?",
    "user": "SELECT max(user) FROM user_label WHERE org = ?",
    "model": "SELECT max(model) FROM model WHERE org = ?",
}
_FIND_MODEL = "SELECT model FROM model WHERE org = ? AND provider = ? AND name = ?"
_INSERT_MODEL = """INSERT INTO model
    (org, model, provider, name, canonical_provider, canonical_name, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_FIND_CARD = "SELECT card FROM rate_card WHERE org = ? AND digest = ?"
_LAST_CARD = "SELECT max(card) FROM rate_card WHERE org = ?"
_INSERT_CARD = """INSERT INTO rate_card
    (org, card, digest, provider, model, service_tier, lines, origin, first_used_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class DirectoryCache:
    """What one organisation's names resolved to; valid until a transaction rolls back.

    `has_made` says that some were made by a transaction that has not committed yet.
    """

    def __init__(self) -> None:
        self.has_made = False
        self.subjects: dict[Subject, Refs] = {}
        self.names: dict[tuple[str, ...], int] = {}
        self.cards: dict[bytes, int] = {}


class SqlDirectory:
    """`ingestion.ports.DirectoryWriter` on the writer connection."""

    def __init__(
        self,
        connection: Connection,
        org: Org,
        cache: DirectoryCache,
        canonicalise: Canonicalise,
        now: int,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._connection = connection
        self._org = org
        self._cache = cache
        self._canonicalise = canonicalise
        self._now = now
        self._limits = limits

    def committed(self) -> None:
        """Know that the names it has made are there for good."""
        self._cache.has_made = False

    async def resolve(self, events: Sequence[UsageEvent]) -> Sequence[Refs]:
        """Return the row numbers of each event's names, making what is new."""
        found: list[Refs] = []
        last: Subject | None = None
        refs: Refs | None = None
        for event in events:
            # Neighbours mostly share the very same subject.
            if event.subject is not last or refs is None:
                last = event.subject
                refs = self._refs(last)
            found.append(refs)
        return found

    def know_agent(self, name: str) -> None:
        """Enter an agent that is new."""
        self._name("agent", name, {})

    async def cards(self, prices: Sequence[Price]) -> Sequence[int]:
        """Return the row number of each price's rate card, 0 for none."""
        known = self._cache.cards
        numbers: list[int] = []
        last: RateCard | None = None
        number = 0
        for card, _, _ in prices:
            # Neighbours are mostly priced by the very same card.
            if card is not last:
                last = card
                number = 0 if card is None else known.get(card.digest) or self._card(card)
            numbers.append(number)
        return numbers

    def _refs(self, subject: Subject) -> Refs:
        """Intern one subject; a repeat within the batch finds the first one's result."""
        cached = self._cache.subjects.get(subject)
        if cached is not None:
            return cached
        overflow: dict[str, str] = {}
        refs = Refs(
            self._name("agent", subject.agent, overflow),
            self._model(subject, overflow),
            self._name("project", subject.project, overflow),
            self._name("feature", subject.feature, overflow),
            self._name("user", subject.user, overflow),
            subject.api_key,
            overflow or None,
        )
        if len(self._cache.subjects) >= SUBJECTS_CACHED_MAX:
            self._cache.subjects.clear()
        self._cache.subjects[subject] = refs
        return refs

    def _name(self, kind: str, name: str, overflow: dict[str, str]) -> int:
        """Return the number of one name: most new subjects are new combinations of known names."""
        if not name:
            return 0
        known = self._cache.names.get((kind, name))
        if known is not None:
            return known
        number = self._look_up(kind, name, overflow)
        if number != OTHER:
            self._keep((kind, name), number)
        return number

    def _keep(self, key: tuple[str, ...], number: int) -> None:
        if len(self._cache.names) >= NAMES_CACHED_MAX:
            self._cache.names.clear()
        self._cache.names[key] = number

    def _look_up(self, kind: str, name: str, overflow: dict[str, str]) -> int:
        row = self._connection.execute(_FIND[kind], (self._org, name)).fetchone()
        if row is not None:
            return int(row[0])
        number = self._next(kind)
        if number is None:
            overflow[kind] = name
            return OTHER
        self._insert(kind, number, name)
        return number

    def _insert(self, kind: str, number: int, name: str) -> None:
        self._insert_all(kind, [(number, name)])

    def _insert_all(self, kind: str, made: Iterable[tuple[int, str]]) -> None:
        self._cache.has_made = True
        has_id = kind in {"agent", "project"}
        rows = [(self._org, *one, self._now, *([new_id()] if has_id else ())) for one in made]
        self._connection.executemany(_INSERT[kind], rows)

    def _most(self, kind: str) -> int:
        return self._limits.agents if kind == "agent" else self._limits.others

    def _next(self, kind: str) -> int | None:
        """Return the next free number, None at the cap. Number 1 is kept for `(other)`."""
        last = self._connection.execute(_LAST[kind], (self._org,)).fetchone()[0]
        if last is None:
            if kind != "model":
                self._insert(kind, OTHER, OTHER_NAME)
            return OTHER + 1
        return None if last > self._most(kind) else int(last) + 1

    def _model(self, subject: Subject, overflow: dict[str, str]) -> int:
        names = (subject.provider, subject.model)
        known = self._cache.names.get(("model", *names))
        if known is not None:
            return known
        row = self._connection.execute(_FIND_MODEL, (self._org, *names)).fetchone()
        if row is not None:
            self._keep(("model", *names), int(row[0]))
            return int(row[0])
        number = self._next("model")
        if number is None:
            overflow.update(provider=subject.provider, model=subject.model)
            return OTHER
        if number == OTHER + 1:
            other = (self._org, OTHER, OTHER_NAME, OTHER_NAME, OTHER_NAME, OTHER_NAME, self._now)
            self._connection.execute(_INSERT_MODEL, other)
        canonical = self._canonicalise(*names)
        self._cache.has_made = True
        self._connection.execute(_INSERT_MODEL, (self._org, number, *names, *canonical, self._now))
        self._keep(("model", *names), number)
        return number

    def _card(self, card: RateCard) -> int:
        cache = self._cache.cards
        if card.digest in cache:
            return cache[card.digest]
        row = self._connection.execute(_FIND_CARD, (self._org, card.digest)).fetchone()
        if row is None:
            last = self._connection.execute(_LAST_CARD, (self._org,)).fetchone()[0]
            number = (last or 0) + 1
            lines = msgspec.json.encode(card.lines).decode()
            self._cache.has_made = True
            self._connection.execute(
                _INSERT_CARD,
                (self._org, number, card.digest, card.provider, card.model,
                 int(card.service_tier), lines, card.origin, self._now),
            )  # fmt: skip
        else:
            number = int(row[0])
        if len(cache) >= CARDS_CACHED_MAX:
            cache.clear()
        cache[card.digest] = number
        return number
