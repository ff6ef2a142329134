"""The answers of /v1/budgets… as the command line reads them.

Amounts are decimals in the budget's unit, instants RFC 3339 text. Only what people are
shown is read; `--json` passes on the answer itself.

Not here: how they are shown (`budget_views`).
"""

from decimal import Decimal

import msgspec

Scope = dict[str, str | dict[str, str] | None]
"""The fields by which a budget picks calls; tags by name."""


class Threshold(msgspec.Struct, frozen=True):
    """A share of the limit and what happens there."""

    at: Decimal
    action: str
    max_output_tokens: int | None = None
    latch: bool = False


class Window(msgspec.Struct, frozen=True):
    """One period of a budget, as the API gives it."""

    starts_at: str | None
    ends_at: str | None
    resets_at: str | None
    state: str
    limit: Decimal
    settled: Decimal
    held: Decimal
    remaining: Decimal
    overrun: Decimal
    unheld: Decimal
    lowered: Decimal
    late: Decimal
    unpriced: int
    run: str | None = None

    @property
    def used(self) -> Decimal:
        """What is spent and what is held."""
        return self.settled + self.held


class Rules(msgspec.Struct, frozen=True):
    """What a budget is, without how it stands: also a proposed one."""

    name: str | None
    scope: Scope
    metric: str
    unit: str
    period: str
    timezone: str
    reset_hour: int
    limit: Decimal
    mode: str
    thresholds: list[Threshold]
    unpriced: str
    on_expiry: str
    enforcement: str
    template: bool

    @property
    def title(self) -> str:
        """Its name, else whom it is for."""
        return self.name or scope_text(self.scope)


class Budget(Rules, frozen=True):
    """One budget with the window that counts now, as the API gives it."""

    id: str
    budget_state: str
    window: Window | None


class Alert(msgspec.Struct, frozen=True):
    """One thing that somebody should hear of."""

    at: str
    type: str
    amount: Decimal | None
    threshold: Decimal | None
    agent: str | None
    hold_id: str | None
    event_id: str | None


class HeldNow(msgspec.Struct, frozen=True):
    """A hold that counted in a window at an instant."""

    id: str
    agent: str | None
    model: str | None
    state: str
    amount: Decimal
    created_at: str
    expires_at: str | None


class Spent(msgspec.Struct, frozen=True):
    """One amount that was settled in a window: by a hold, or by an event that had none."""

    at: str
    agent: str | None
    amount: Decimal
    effect: str
    hold_id: str | None = None
    event_id: str | None = None


class WindowThen(msgspec.Struct, frozen=True):
    """A window at an instant of the past; a number that is not known any more is None."""

    starts_at: str | None
    ends_at: str | None
    state: str
    limit: Decimal
    settled: Decimal | None
    held: Decimal | None
    remaining: Decimal | None
    run: str | None = None


class Explained(msgspec.Struct, frozen=True):
    """What filled a window up to an instant."""

    at: str
    window: WindowThen | None
    holds_count: int
    holds: list[HeldNow]
    spend: list[Spent]
    has_more: bool
    next_cursor: str | None = None


class HoldWindow(msgspec.Struct, frozen=True):
    """A hold's part in one budget's window, and how that window stands."""

    budget_id: str
    budget: str | None
    metric: str | None
    amount: Decimal
    limit: Decimal
    settled: Decimal
    held: Decimal
    remaining: Decimal
    resets_at: str | None


class Hold(msgspec.Struct, frozen=True):
    """Room set aside for a call, and what became of it. A cost without a price is None."""

    id: str
    agent: str | None
    project: str | None
    user: str | None
    provider: str | None
    model: str | None
    run: str | None
    kind: str
    amount_usd: Decimal | None
    state: str
    max_output_tokens: int | None
    created_at: str
    deadline_at: str | None
    expires_at: str | None
    ended_at: str | None
    settled_usd: Decimal | None
    windows: list[HoldWindow]


class SimulatedWindow(msgspec.Struct, frozen=True):
    """One window of a simulation: what would have been spent, and how many calls refused."""

    starts_at: str | None
    ends_at: str | None
    limit: Decimal
    settled: Decimal
    refused: int
    run: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """One past call that a proposed budget would have refused."""

    at: str
    event_id: str
    agent: str | None
    model: str | None
    run: str | None
    amount: Decimal | None
    reason: str
    settled: Decimal | None
    limit: Decimal


class Simulation(msgspec.Struct, frozen=True):
    """What a proposed budget would have done to past calls."""

    budget: Rules
    from_: str | None = msgspec.field(name="from")
    to: str | None
    events_read: int
    matched: int
    refused: int
    refused_amount: Decimal
    refusals: list[Refusal]
    windows: list[SimulatedWindow]
    windows_count: int
    alerts_count: int
    truncated: bool


def scope_text(scope: Scope) -> str:
    """Return whose calls a budget counts, in words.

    Example:
        >>> scope_text({"agent": "bot", "tags": {"team": "x"}})
        'agent bot, tag team=x'
    """
    parts = []
    for field, value in scope.items():
        if isinstance(value, dict):
            parts += [f"tag {name}={of}" for name, of in value.items()]
        else:
            # A key that is gone has no id to show.
            parts.append(f"{field.replace('api_key', 'key')} {value or '(deleted)'}")
    return ", ".join(parts) or "everybody"
