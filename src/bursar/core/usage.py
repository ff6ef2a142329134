"""The value that every captured call becomes, and what pricing adds to it.

    capture, http  →  UsageEvent  →  pricing  →  PricedEvent  →  ledger.posting

Token counts are *disjoint*: each billed token stands in exactly one of them. Sources that
report inclusive counts (cached tokens inside input, reasoning inside output) are taken
apart where they are captured. `gc=False`: these values hold no cycles, and there are
thousands of them in each batch.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec

TOKENS_MAX = 10**12
"""Upper bound of one count of one event; keeps every sum of a year inside 64 bits."""

NO_TEXT = ""

HOLDS_KEY = b""
"""An event's key where it takes that of the hold it names."""


class Source(IntEnum):
    """Who captured the event. The numbers are stored: never renumber, only add."""

    INGEST = 1
    TRACK = 2
    NATIVE = 3
    OTLP = 4
    CLAUDE_CODE = 5
    CODEX = 6
    GEMINI_CLI = 7
    CSV = 8
    GATEWAY = 9
    HOLD = 10
    PAPERCLIP = 11
    KOMBIFY = 12


class Billing(IntEnum):
    """Who pays for the call by what. Stored: never renumber, only add."""

    METERED = 0
    SUBSCRIPTION = 1


class ServiceTier(IntEnum):
    """The provider's service tier of the answer, which decides the price. Stored."""

    STANDARD = 0
    BATCH = 1
    FLEX = 2
    PRIORITY = 3


class Subject(NamedTuple):
    """Whom an event belongs to and what answered: the names that get interned together.

    Empty text means "not given" for `project`, `feature` and `user`. `model` is the name as
    sent. `api_key` is the row number of the key that carried the event, 0 for none.
    """

    agent: str
    provider: str
    model: str
    project: str = NO_TEXT
    feature: str = NO_TEXT
    user: str = NO_TEXT
    api_key: int = 0


class UsageEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One model call as captured: who, what, how much, when, and what it is said to cost.

    Attributes:
        key: 16 bytes, unique per organisation for ever (`ids.key_from_text`).
        revision: 0 at first; a higher one of the same key replaces what was posted before.
        occurred_at: Microseconds UTC, the caller's own time.
        time_stamped: The caller gave no time; `occurred_at` is ours, stamped once.
        input_tokens: Uncached input only.
        output_tokens: Output without reasoning.
        reported_nusd: The cost the caller reports, nano-USD; None when it reports none.
        run: The caller's run id as text, empty for none; `parent_run` likewise.
        attributes: What nobody groups by: unknown fields, error text, tags, external ids.
        prompt: Only when sent on purpose; kept in its own table, never in the event row.
    """

    key: bytes
    occurred_at: int
    subject: Subject
    source: Source
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0
    duration_ms: int = 0
    reported_nusd: int | None = None
    is_error: bool = False
    billing: Billing = Billing.METERED
    service_tier: ServiceTier = ServiceTier.STANDARD
    run: str = NO_TEXT
    parent_run: str = NO_TEXT
    session: str = NO_TEXT
    hold: bytes | None = None
    revision: int = 0
    time_stamped: bool = False
    clock_suspect: bool = False
    attributes: Mapping[str, object] | None = None
    prompt: str | None = None

    @property
    def tokens_total(self) -> int:
        """All tokens of all kinds, each counted once."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.reasoning_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.media_tokens
        )

    @property
    def media_tokens(self) -> int:
        """Audio and image tokens, in and out: one column in the roll-ups."""
        return (
            self.input_audio_tokens
            + self.output_audio_tokens
            + self.input_image_tokens
            + self.output_image_tokens
        )


class RateLine(NamedTuple):
    """One line of a rate card: what a unit costs, and from which context size on.

    `unit` is a count field of `UsageEvent` (`input_tokens`, …) or `request`.
    `nusd_per_unit_e6` is the price of ONE unit in nano-USD × 10⁶, an exact integer:
    2.50 USD per million tokens is 2,500 nano-USD a token, so 2,500,000,000.
    `from_context_tokens` is 0 for the base price; a tier applies to the whole event when
    its context (input, cached and cache-write tokens together) is above that number.
    """

    unit: str
    nusd_per_unit_e6: int
    from_context_tokens: int = 0


class RateCard(msgspec.Struct, frozen=True, gc=False):
    """The prices that applied to one model at one time: lines, and where they came from.

    `digest` is 16 bytes over provider, model, tier and lines: the card's identity. A card
    is copied into the ledger when first used and never changes there, so an event stays
    explainable after any later price release.
    """

    digest: bytes
    provider: str
    model: str
    service_tier: ServiceTier
    lines: tuple[RateLine, ...]
    origin: str


class Price(NamedTuple):
    """What pricing says of one event.

    Attributes:
        card: The rate card, None when no price is known.
        computed_nusd: By the card, rounded up once; None when no price is known.
        cost_nusd: What counts, by `cost_basis`; None means unpriced, never 0.
    """

    card: RateCard | None
    computed_nusd: int | None
    cost_nusd: int | None
