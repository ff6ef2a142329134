"""Agents and their events in the AgentKavach vocabulary: money is a JSON number with all its digits.

Input counts every token that was sent, cached ones too; output counts reasoning. What that product has no
field for stands beside its fields. Not here: routes (`agents`), budgets (`agent_budgets`).
"""

from collections.abc import Sequence
from typing import Final

from bursar.analytics.agents import Agent, AgentDay, Use, total
from bursar.analytics.events import Event
from bursar.analytics.slices import Slice
from bursar.core.ids import text_from_id
from bursar.core.time import text_from_micros
from bursar.http.v1.report_query import json_number
from bursar.ledger.rows import EntryRow, Measures

_PERCENT_DIGITS: Final = 2


def agent_body(agent: Agent, now: int) -> dict[str, object]:
    """Return one agent of the list; `used` holds today, week, month and the range."""
    today, week, month, asked = agent.used
    whole, standing = agent.total, agent.standing
    return {
        "agent_name": agent.name,
        "provider": agent.provider,
        "model": agent.model,
        "total_events": whole.events,
        "total_cost": json_number(whole.cost_nusd),
        "cost_today": json_number(today.cost_nusd),
        "cost_week": json_number(week.cost_nusd),
        "cost_month": json_number(month.cost_nusd),
        "input_tokens_today": today.input_tokens,
        "output_tokens_today": today.output_tokens,
        "total_input_tokens": whole.input_tokens,
        "total_output_tokens": whole.output_tokens,
        "total_duration_ms": whole.duration_ms,
        "range_events": asked.events,
        "range_cost": json_number(asked.cost_nusd),
        "budget_limit_usd": None if standing.limit_nusd is None else json_number(standing.limit_nusd),
        "budget_used_pct": percent(standing.used_nusd, standing.limit_nusd),
        "status": agent.status(now).value,
        "has_kill_switch": standing.has_kill_switch,
        "last_active": _moment(agent.last_at),
        "unpriced_events": whole.unpriced,
    }


def detail_body(agent: Agent, now: int) -> dict[str, object]:
    """Return one agent of its own page: what the list says, and more of each period."""
    periods = zip(("today", "week", "month", "total"), (*agent.used[:3], agent.total), strict=True)
    return agent_body(agent, now) | {
        "primary_provider": agent.provider,
        "primary_model": agent.model,
        "spend": {name: use_body(use) for name, use in periods},
        "errors": agent.errors,
        "first_active": _moment(agent.first_at),
        "created_at": text_from_micros(agent.created_at),
    }


def history_body(found: Sequence[AgentDay], pieces: Sequence[Slice], shown: int) -> dict[str, object]:
    """Return an agent's models over all of `pieces`, the dearest first, and its last `shown` days."""
    models: dict[tuple[str | None, str], Use] = {}
    days = [Use() for _ in pieces]
    for part in found:
        which = part.provider, part.model
        models[which] = total((models.get(which, Use()), part.used))
        days[part.day] = total((days[part.day], part.used))
    whole = total(days).cost_nusd
    ranked = sorted(models.items(), key=lambda one: (-one[1].cost_nusd, -one[1].events))
    last = zip(pieces[-shown:], days[-shown:], strict=True)
    history = [{"date": piece.name} | use_body(use) for piece, use in last]
    return {
        "models": [
            {"provider": provider, "model": model}
            | use_body(use)
            | {"cost_pct": percent(use.cost_nusd, whole) or 0.0}
            for (provider, model), use in ranked
        ],
        "models_days": len(pieces),
        "history": history,
        "spend_history": history,
    }


def measures_body(measures: Measures) -> dict[str, object]:
    """Return sums under that product's names."""
    return {
        "cost": json_number(measures.cost_nusd),
        "events": measures.requests,
        "input_tokens": input_tokens(measures),
        "output_tokens": output_tokens(measures),
        "duration_ms": measures.duration_ms,
        "errors": measures.errors,
        "unpriced_events": measures.unpriced_requests,
    }


def event_body(event: Event) -> dict[str, object]:
    """Return one event as it stands."""
    row = event.row
    return {
        "id": text_from_id("evt", row.key),
        "agent_name": event.labels["agent"],
        "provider": event.labels["provider"],
        "model": event.labels["model"],
        "input_tokens": input_tokens(row),
        "output_tokens": output_tokens(row),
        "cost": None if row.cost_nusd is None else json_number(row.cost_nusd),
        "duration_ms": row.duration_ms,
        "timestamp": text_from_micros(row.occurred_at),
        "run_id": event.labels["run"],
        "status": "error" if row.is_error else "success",
    }


def input_tokens(counted: EntryRow | Measures) -> int:
    """Return all tokens that were sent, read from or written to a cache or not."""
    writes = counted.cache_write_5m_tokens + counted.cache_write_1h_tokens
    return counted.input_tokens + counted.cache_read_tokens + writes


def output_tokens(counted: EntryRow | Measures) -> int:
    """Return all tokens that came back, reasoning among them."""
    return counted.output_tokens + counted.reasoning_tokens


def percent(part: int, whole: int | None) -> float | None:
    """Return a share in percent for people to read, to two decimals; None of nothing."""
    return round(100 * part / whole, _PERCENT_DIGITS) if whole else None


def use_body(use: Use) -> dict[str, object]:
    """Return what was used in a span."""
    return {
        "cost": json_number(use.cost_nusd),
        "events": use.events,
        "input_tokens": use.input_tokens,
        "output_tokens": use.output_tokens,
        "duration_ms": use.duration_ms,
        "unpriced_events": use.unpriced,
    }


def _moment(at: int | None) -> str | None:
    return None if at is None else text_from_micros(at)
