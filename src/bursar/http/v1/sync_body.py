"""The body of `POST /v1/sync-config`: what the AgentKavach client sends when a process starts.

    JSON  →  SyncForm (parts for `enforcement.synced`, and what was passed over)

Every published version's form is taken. What we do not know (a type, a period, a unit, a field) is
passed over and listed, never refused: the client would lose the rest of its config for it. A limit
that is no amount is refused, because the agent would run without it. Not here: what
becomes of it (`enforcement.synced`), the answer (`sync_config`).
"""

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Final, NamedTuple, TypeVar

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import PPM, Scope
from bursar.budgets.reading import limit_from
from bursar.capture import checks
from bursar.core.errors import InvalidAmount, InvalidInput
from bursar.core.periods import Period
from bursar.enforcement.synced import Part, WantedBudget, WantedRule

ITEMS_MAX: Final = 200
"""Entries of one list: each agent has a few budgets, each with a rule for a few shares."""

TARGET_LENGTH_MAX: Final = 2_048
_TOKENS: Final = {"tokens": 1, "token": 1}
_UNITS: Final = {
    Metric.COST: {"usd": 1, "$": 1},
    Metric.TOKENS_TOTAL: _TOKENS,
    Metric.TOKENS_INPUT: _TOKENS,
    Metric.TOKENS_OUTPUT: _TOKENS,
    Metric.CALLS: {"calls": 1, "call": 1},
    Metric.DURATION: {"ms": 1, "milliseconds": 1, "s": 1_000, "sec": 1_000, "seconds": 1_000},
    Metric.DEPTH: {"levels": 1},
    Metric.LOOPS: {"loops": 1, "loop": 1},
}
_PERIODS: Final = {period.value: period for period in Period} | {"per_run": Period.RUN}
_METRICS: Final = {metric.value: metric for metric in Metric}

Fields = Mapping[str, object]
T = TypeVar("T")


class Skipped(NamedTuple):
    """Something that was passed over: where it stands, and why."""

    field: str
    reason: str


class SyncForm(NamedTuple):
    """What a client asks for.

    Attributes:
        agent: Whose process it is.
        budgets, rules: Of the agent.
        org_budget: The organisation's; None where this process has none, which ends nothing.
        org_rules: The organisation's, only with its budget.
        skipped: What was passed over.
    """

    agent: str
    budgets: list[WantedBudget]
    rules: list[WantedRule]
    org_budget: WantedBudget | None
    org_rules: list[WantedRule]
    skipped: list[Skipped]

    def parts(self, scope: Scope) -> list[Part]:
        """Return what is asked for `scope`, the agent's, and for the organisation."""
        own = Part(scope, self.budgets, self.rules)
        if self.org_budget is None:
            return [own]
        return [own, Part(Scope(), [self.org_budget], self.org_rules)]


def sync_form(fields: Fields) -> SyncForm:
    """Read a body.

    Raises:
        InvalidInput: No agent's name, a list that is none, or a limit that is no amount above zero.
    """
    agent = checks.name(fields.get("agent_name"), "agent_name")
    skipped: list[Skipped] = []
    is_delivered = fields.get("dispatch") != "sdk"
    budgets = [
        budget
        for place, one in enumerate(_objects(fields, "budgets"))
        if (budget := _budget(one, f"budgets[{place}]", skipped)) is not None
    ]
    rules = _rules(fields, "alert_configs", skipped, is_delivered=is_delivered)
    org_budget = None
    sent = fields.get("org_budget")
    if sent is not None:
        if not isinstance(sent, Mapping):
            raise InvalidInput("org_budget must be an object or null", field="org_budget")
        org_budget = _budget(sent, "org_budget", skipped)
    org_rules = _rules(fields, "org_alert_configs", skipped, is_delivered=is_delivered)
    return SyncForm(agent, budgets, rules, org_budget, org_rules, skipped)


def _rules(fields: Fields, name: str, skipped: list[Skipped], *, is_delivered: bool) -> list[WantedRule]:
    """Return the rules of a list, each once, in its order."""
    found = [
        rule
        for place, one in enumerate(_objects(fields, name))
        if (rule := _rule(one, f"{name}[{place}]", skipped, is_delivered=is_delivered)) is not None
    ]
    return list(dict.fromkeys(found))


def _objects(fields: Fields, name: str) -> list[Fields]:
    """Return a list of objects, empty where it is not given.

    Raises:
        InvalidInput: Another thing, or too long.
    """
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        raise InvalidInput(f"{name} must be a list of at most {ITEMS_MAX} objects", field=name)
    for place, one in enumerate(value):
        if not isinstance(one, Mapping):
            raise InvalidInput(f"{name}[{place}] must be an object", field=f"{name}[{place}]")
    return value


def _budget(one: Fields, place: str, skipped: list[Skipped]) -> WantedBudget | None:
    """Return one limit, None where its type, period or unit is not known.

    Raises:
        InvalidAmount: Not a number above zero.
    """
    metric = _known(_METRICS, one.get("budget_type", "cost"), f"{place}.budget_type", skipped)
    period = _known(_PERIODS, one.get("period", "daily"), f"{place}.period", skipped)
    if metric is None or period is None:
        return None
    unit = one.get("unit")
    lowered = unit.strip().lower() if isinstance(unit, str) else unit
    factor = 1 if unit is None else _known(_UNITS[metric], lowered, f"{place}.unit", skipped)
    if factor is None:
        return None
    return WantedBudget(
        metric, period, amount_of(one.get("limit_value"), metric, f"{place}.limit_value", factor)
    )


def amount_of(value: object, metric: Metric, field: str, factor: int = 1) -> int:
    """Return a limit in the metric's own unit, from the JSON number `value` in one `factor` times as large.

    What is counted in whole units is rounded down.

    Raises:
        InvalidAmount: Not a number above zero, or too large; `field` is named.
    """
    try:
        if isinstance(value, Decimal) and metric is not Metric.COST and value.is_finite():
            value = (value * factor).to_integral_value(ROUND_FLOOR)
        elif type(value) is int:
            value *= factor
        return limit_from(value, metric)
    except InvalidAmount as error:
        raise InvalidAmount(f"{field}: {error.detail}", field=field) from None


def _rule(one: Fields, place: str, skipped: list[Skipped], *, is_delivered: bool) -> WantedRule | None:
    """Return one alert rule, None where it says nothing that can be kept."""
    channel, metric = one.get("channel"), one.get("budget_type", "cost")
    share_ppm = share_of(one.get("threshold_pct"))
    if share_ppm is None:
        skipped.append(Skipped(f"{place}.threshold_pct", "must be a number above 0 and at most 1"))
        return None
    try:
        name = checks.name(channel, "channel")
        about = checks.name(metric, "budget_type")
        target = text_or_none(one.get("target"), "target")
        secret = text_or_none(one.get("secret"), "secret")
    except InvalidInput as error:
        skipped.append(Skipped(f"{place}.{error.field}", error.detail))
        return None
    delivers = is_delivered and one.get("dispatch") != "sdk"
    return WantedRule(name.lower(), share_ppm, about, target, secret, delivers)


def share_of(value: object) -> int | None:
    """Return millionths of a fraction in (0, 1], None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    share = Decimal(value)
    if not share.is_finite() or not 0 < share <= 1:
        return None
    return max(1, round(share * PPM))


def text_or_none(value: object, field: str) -> str | None:
    """Return a target or a secret, None where it is not given.

    Raises:
        InvalidInput: Not text, too long, or with control characters.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > TARGET_LENGTH_MAX or not value.isprintable():
        raise InvalidInput(
            f"{field} must be printable text of at most {TARGET_LENGTH_MAX} characters", field=field
        )
    return value


def _known(choices: Mapping[str, T], value: object, place: str, skipped: list[Skipped]) -> T | None:
    """Return what a text stands for; one that is not known is passed over, and listed."""
    found = choices.get(value) if isinstance(value, str) else None
    if found is None:
        shown = repr(value)[:60]
        skipped.append(Skipped(place, f"{shown} is not known here; send one of {', '.join(choices)}"))
    return found
