"""What a budget is: whose spend it counts, in what, how long, up to where, and what then.

    a request's fields  →  budget_from_fields  →  Budget  →  matching, window, hold

A budget never holds a counter: counts live in its windows, which are made when first
touched and never reset. Pure.

Not here: which budgets a call meets (`matching`), the counts (`window`).
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec

from bursar.budgets.amounts import COST, Metric
from bursar.core.periods import Period

PPM: Final = 1_000_000
"""Thresholds are millionths of the limit, so that no comparison needs a fraction."""


class Mode(StrEnum):
    """Whether a budget refuses. Stored."""

    HARD = "hard"
    SOFT = "soft"


class Unpriced(StrEnum):
    """What a hard money budget does once its window holds calls without a known price. Stored."""

    BLOCK = "block"
    ALLOW = "allow"


class OnExpiry(StrEnum):
    """What becomes of a hold's amount when nobody settles it. Stored."""

    RELEASE = "release"
    SUSPENSE = "suspense"


class Action(StrEnum):
    """What happens at a threshold. Stored."""

    ALERT = "alert"
    CLAMP = "clamp"
    REFUSE = "refuse"
    PAUSE = "pause"
    KILL = "kill"


class Threshold(msgspec.Struct, frozen=True):
    """A share of the limit, in millionths, and what happens there.

    Attributes:
        clamp_output_tokens: For `clamp` alone: the most output a call may ask for from there on.
        latch: For `pause` and `kill` alone: whoever reaches it is stopped until somebody resumes
            it, also when the window is over.
    """

    at_ppm: int
    action: Action = Action.ALERT
    clamp_output_tokens: int = 0
    latch: bool = False


DEFAULT_THRESHOLDS = (Threshold(800_000), Threshold(PPM))


class ScopeKind(StrEnum):
    """What a scope stands for where a surface words its refusals by it."""

    ORGANISATION = "organisation"
    AGENT = "agent"
    OTHER = "other"


class Scope(msgspec.Struct, frozen=True):
    """Whose calls a budget counts: those that fit every field given; empty means everybody's.

    `model` and `provider` are globs (`*`, `?`, `[…]`), compared without regard to case; the
    rest is exact. `api_key` is the key's row number, 0 for any. `tags` are (name, value)
    pairs, sorted, all of which a call must carry.
    """

    project: str = ""
    agent: str = ""
    user: str = ""
    api_key: int = 0
    model: str = ""
    provider: str = ""
    run: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> ScopeKind:
        """The whole organisation, one agent and nothing narrower, or anything else."""
        if self == Scope():
            return ScopeKind.ORGANISATION
        return ScopeKind.AGENT if self == Scope(agent=self.agent) else ScopeKind.OTHER


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One budget as stored; `budget_from_fields` makes one from outside and checks it.

    Attributes:
        limit: In the metric's unit: nano-USD, tokens, calls, milliseconds, levels or repeated calls.
        zone: IANA name; calendar windows begin by its clocks at `reset_hour`.
        created_at: Microseconds UTC; nothing that happened before counts.
        on_expiry: For single holds. The unreported rest of a lease on a hard budget always
            goes to suspense.
        requires_hold: Spend without a hold raises an alert at once.
        source: Who made it: `person`, `sdk:<agent>`, `paperclip`, `template:<id>`.
        is_template: It counts nothing itself: each agent in its scope gets a budget like it.
    """

    id: bytes
    limit: int
    created_at: int
    name: str = ""
    scope: Scope = Scope()
    metric: Metric = Metric.COST
    period: Period = Period.DAILY
    zone: str = "UTC"
    reset_hour: int = 0
    mode: Mode = Mode.HARD
    thresholds: tuple[Threshold, ...] = DEFAULT_THRESHOLDS
    unpriced: Unpriced = Unpriced.BLOCK
    on_expiry: OnExpiry = OnExpiry.RELEASE
    requires_hold: bool = False
    source: str = "person"
    is_template: bool = False

    @property
    def is_hard(self) -> bool:
        """It refuses what does not fit."""
        return self.mode is Mode.HARD

    @property
    def is_binding(self) -> bool:
        """It may change the answer to an authorise: hard, or with an action beyond an alert."""
        return self.is_hard or any(t.action is not Action.ALERT for t in self.thresholds)

    @property
    def refuses_at_ppm(self) -> int:
        """From which share of the limit on a call no longer fits; 0 where it never refuses."""
        shares = [t.at_ppm for t in self.thresholds if t.action is Action.REFUSE]
        return min([*shares, PPM] if self.is_hard else shares, default=0)

    @property
    def stop(self) -> Threshold | None:
        """The threshold from which its scope is stopped: the lowest pause or kill, kill first.

        Latched ones are not among them: theirs is a gate's stop, which a person can end at once.
        """
        stops = [t for t in self.thresholds if t.action in {Action.PAUSE, Action.KILL} and not t.latch]
        return min(stops, key=lambda t: (t.at_ppm, t.action is not Action.KILL), default=None)

    def limit_of_grants(self, limit: int) -> int | None:
        """Return up to where a window of that `limit` grants; None where it never refuses."""
        ppm = self.refuses_at_ppm
        return limit * ppm // PPM if ppm else None

    @property
    def is_money(self) -> bool:
        """It counts cost."""
        return self.metric.column == COST


class Terms(msgspec.Struct, frozen=True, gc=False):
    """A budget's rules as the hot path reads them: worked out once, plain attributes.

    Attributes:
        refuses_at_ppm: 0 where it never refuses.
        first_ppm: The lowest threshold; below it nothing can be due.
        clamps: (share in ppm, output tokens), lowest share first.
        latches: The thresholds whose stop stays.
    """

    budget: Budget
    id: bytes
    column: int
    is_hard: bool
    is_money: bool
    blocks_unpriced: bool
    refuses_at_ppm: int
    stop: Threshold | None
    clamps: tuple[tuple[int, int], ...]
    latches: tuple[Threshold, ...]
    first_ppm: int
    is_per_run: bool


def terms_of(budget: Budget) -> Terms:
    """Return a budget's rules in the form that decisions read."""
    clamps = [(t.at_ppm, t.clamp_output_tokens) for t in budget.thresholds if t.action is Action.CLAMP]
    return Terms(
        budget=budget,
        id=budget.id,
        column=budget.metric.column,
        is_hard=budget.is_hard,
        is_money=budget.is_money,
        blocks_unpriced=budget.is_hard and budget.is_money and budget.unpriced is Unpriced.BLOCK,
        refuses_at_ppm=budget.refuses_at_ppm,
        stop=budget.stop,
        clamps=tuple(sorted(clamps)),
        latches=tuple(t for t in budget.thresholds if t.latch),
        first_ppm=min((t.at_ppm for t in budget.thresholds), default=0),
        is_per_run=budget.period is Period.RUN,
    )


def made_id(template_id: bytes, agent: str) -> bytes:
    """Return the id of the budget that a template gives `agent`: the same two, the same id, for ever."""
    text = agent.encode("utf-8", "surrogatepass")
    return blake2b(template_id + text, digest_size=len(template_id)).digest()


def from_template(template: Budget, agent: str) -> Budget:
    """Return the budget that a template ("every new agent gets 5 USD a day") gives `agent`.

    It counts from the template's creation on, so that the call which makes it is counted
    also when it is heard of late.
    """
    return msgspec.structs.replace(
        template,
        id=made_id(template.id, agent),
        is_template=False,
        scope=msgspec.structs.replace(template.scope, agent=agent),
        source=f"template:{template.id.hex()}",
    )
