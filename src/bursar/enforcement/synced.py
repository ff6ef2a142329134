"""Budgets that clients bring along: what an agent's process asks for when it starts.

    POST /v1/sync-config  →  Wanted  →  desk.change  →  sync  →  changes, alert configs

They are rows of their own (`source` is `sdk:<agent>`, `sdk` for the organisation's), one for each metric and
period; those that people make are never touched, and every budget that matches counts. What a
client asked for last is kept, so that its next start undoes nothing that a person has changed since:
only a new wish changes anything, and a limit that a person lowered stays at most there.

Not here: the form of the request (`http`), what a person sets by hand (`administration`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import Budget, Scope, Threshold, Unpriced
from bursar.core.ids import new_id
from bursar.core.periods import Period
from bursar.core.time import MICROS_PER_MINUTE
from bursar.enforcement import administration
from bursar.enforcement.alert_configs import AlertConfig, thresholds_of
from bursar.enforcement.changes import Change

ORGANISATION_SOURCE = "sdk"
GRACE_MICROS = 5 * MICROS_PER_MINUTE
"""A process makes its first calls while its config is still on the way; they count as well."""


class WantedBudget(NamedTuple):
    """One limit that a client asks for, in the metric's unit."""

    metric: Metric
    period: Period
    limit: int


class WantedRule(NamedTuple):
    """One alert rule that a client asks for; see `AlertConfig`."""

    channel: str
    share_ppm: int
    metric: str = Metric.COST
    target: str | None = None
    secret: str | None = None
    is_delivered: bool = True


class Part(NamedTuple):
    """What is asked for one scope: an agent's, or the organisation's."""

    scope: Scope
    budgets: Sequence[WantedBudget]
    rules: Sequence[WantedRule]

    @property
    def source(self) -> str:
        """Who its budgets are from."""
        return f"sdk:{self.scope.agent}" if self.scope.agent else ORGANISATION_SOURCE


class _Asked(msgspec.Struct, frozen=True):
    """What was asked for last of one metric and period."""

    limit: int
    thresholds: tuple[Threshold, ...]


_decode = msgspec.json.Decoder(dict[str, _Asked]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


async def sync(change: Change, agent: str, parts: Iterable[Part], *, actor: str) -> None:
    """Bring budgets and alert configs to what an agent's client asks for.

    The agent is known from then on. The same wish again changes nothing and leaves no trace.

    Raises:
        TooManyBudgets: Some call would meet more budgets than can be decided at once.
    """
    await change.unit.configs.know_agent(agent)
    for part in parts:
        configs = await _sync_rules(change, part, actor)
        change = await _sync_budgets(change, part, configs, actor)


async def add_config(change: Change, config: AlertConfig, *, actor: str) -> None:
    """Store a person's alert config, and give the thresholds that follow to the client's budgets."""
    await change.unit.configs.add([config])
    await change.record(actor, "alert_config.create", config.agent, {"after": _plain(config)})
    await _follow(change, config.agent, actor)


async def remove_config(change: Change, config: AlertConfig, *, actor: str) -> None:
    """Take an alert config away, with the thresholds that it gave to the client's budgets."""
    await change.unit.configs.remove([config.id])
    await change.record(actor, "alert_config.delete", config.agent, {"before": _plain(config)})
    await _follow(change, config.agent, actor)


async def _sync_rules(change: Change, part: Part, actor: str) -> Sequence[AlertConfig]:
    """Replace the client's own alert configs as a set; return all of the scope."""
    store = change.unit.configs
    before = await store.of_agent(part.scope.agent)
    own = [config for config in before if config.source == part.source]
    if [config.rule for config in own] == [tuple(rule) for rule in part.rules]:
        return before
    made = [
        AlertConfig(
            id=new_id(),
            agent=part.scope.agent,
            source=part.source,
            created_at=change.now.at,
            **rule._asdict(),
        )
        for rule in part.rules
    ]
    await store.remove(config.id for config in own)
    await store.add(made)
    details = {"before": list(map(_plain, own)), "after": list(map(_plain, made))}
    await change.record(actor, "alert_config.sync", part.scope.agent, details)
    return [*(config for config in before if config.source != part.source), *made]


async def _sync_budgets(change: Change, part: Part, configs: Sequence[AlertConfig], actor: str) -> Change:
    """Make or change the client's budgets; return the change as it stands then."""
    last = await _last(change, part.scope.agent)
    asked = {_name(one.metric, one.period): one for one in part.budgets}
    now: dict[str, _Asked] = {}
    for name, one in asked.items():
        wish = now[name] = _Asked(one.limit, thresholds_of(configs, one.metric))
        found = _own(change, part, one)
        if found is None:
            made = _new_budget(change, part, one, wish)
            await administration.create_budget(change, made, actor=actor)
            # The next one of this request must find room beside it.
            change = change._replace(active=change.active.extended([made]))
        elif wish != last.get(name):
            await _grant(change, found, last.get(name), wish, actor)
    if {**last, **now} != last:
        await change.unit.configs.put_synced(part.scope.agent, _encode({**last, **now}), change.now.at)
    return change


async def _grant(change: Change, budget: Budget, last: _Asked | None, wish: _Asked, actor: str) -> None:
    """Give a client's budget its new wish, but for what a person has changed since the last one."""
    is_lowered = last is not None and budget.limit < last.limit
    limit = min(budget.limit, wish.limit) if is_lowered else wish.limit
    has_new_rules = last is None or wish.thresholds != last.thresholds
    thresholds = wish.thresholds if has_new_rules else budget.thresholds

    def how(old: Budget) -> Budget:
        return msgspec.structs.replace(old, limit=limit, thresholds=thresholds)

    await administration.change_budget(change, budget.id, how, actor=actor)


async def _follow(change: Change, agent: str, actor: str) -> None:
    """Give the client's budgets of an agent the thresholds that its configs ask for now."""
    configs = await change.unit.configs.of_agent(agent)
    last = await _last(change, agent)
    source = Part(Scope(agent=agent), (), ()).source
    now = dict(last)
    for terms in change.active.terms.values():
        budget = terms.budget
        name = _name(budget.metric, budget.period)
        if budget.source != source or name not in last:
            continue
        wish = now[name] = _Asked(last[name].limit, thresholds_of(configs, budget.metric))
        if wish != last[name]:
            await _grant(change, budget, last[name], _Asked(budget.limit, wish.thresholds), actor)
    if now != last:
        await change.unit.configs.put_synced(agent, _encode(now), change.now.at)


async def _last(change: Change, agent: str) -> dict[str, _Asked]:
    body = await change.unit.configs.synced(agent)
    return {} if body is None else _decode(body)


def _own(change: Change, part: Part, wanted: WantedBudget) -> Budget | None:
    """Return the client's own budget of a scope, metric and period."""
    for terms in change.active.terms.values():
        budget = terms.budget
        is_same = (budget.metric, budget.period) == (wanted.metric, wanted.period)
        if is_same and budget.source == part.source and budget.scope == part.scope:
            return budget
    return None


def _new_budget(change: Change, part: Part, wanted: WantedBudget, wish: _Asked) -> Budget:
    whose = part.scope.agent or "the organisation"
    return Budget(
        id=new_id(),
        name=f"{whose}: {wanted.metric.value} {wanted.period.value}"[:200],
        scope=part.scope,
        metric=wanted.metric,
        period=wanted.period,
        limit=wish.limit,
        thresholds=wish.thresholds,
        unpriced=Unpriced.ALLOW,
        source=part.source,
        created_at=change.now.at - GRACE_MICROS,
    )


def _name(metric: Metric, period: Period) -> str:
    return f"{metric.value}/{period.value}"


def _plain(config: AlertConfig) -> dict[str, object]:
    """Return what may be told of a config: neither its target nor its secret."""
    return {"channel": config.channel, "share_ppm": config.share_ppm, "budget_type": config.metric}
