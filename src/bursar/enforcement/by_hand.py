"""Limits that a person sets by scope, metric and period, where a surface knows no ids.

POST /v1/org/budgets, POST /v1/agents/{name}/budgets  →  set_limit  →  administration
"""

from typing import NamedTuple

import msgspec

from bursar.budgets.amounts import Metric
from bursar.budgets.budget import Budget, Scope
from bursar.core.ids import new_id
from bursar.core.periods import Period
from bursar.enforcement import administration
from bursar.enforcement.changes import Change

PERSON = "person"


class Limit(NamedTuple):
    """What is limited, in which period, and up to where, in the metric's unit."""

    metric: Metric
    period: Period
    amount: int


async def set_limit(
    change: Change, scope: Scope, limit: Limit, zone: str, *, actor: str
) -> tuple[bytes, bool]:
    """Give a person's budget of that scope, metric and period the limit, or make one.

    Budgets that clients or templates made are not touched.

    Returns:
        The budget's id, and whether it is new.

    Raises:
        TooManyBudgets: Some call would meet more budgets than can be decided at once.
    """
    for terms in change.active.terms.values():
        budget = terms.budget
        is_same = (budget.scope, budget.metric, budget.period) == (scope, limit.metric, limit.period)
        if is_same and budget.source == PERSON and not budget.is_template:

            def how(old: Budget) -> Budget:
                return msgspec.structs.replace(old, limit=limit.amount)

            await administration.change_budget(change, budget.id, how, actor=actor)
            return budget.id, False
    made = Budget(
        id=new_id(),
        scope=scope,
        metric=limit.metric,
        period=limit.period,
        limit=limit.amount,
        zone=zone,
        created_at=change.now.at,
    )
    await administration.create_budget(change, made, actor=actor)
    return made.id, True
