"""Templates: budgets that are made by themselves, "every new agent gets 5 USD a day".

    calls → BudgetIndex.lacking → missing → completed → budgets to store, before the calls are decided

A template counts nothing. The first call of each agent in its scope makes a budget of that agent,
within the call's own commit; its id follows from template and agent, so that one which
somebody deleted is never made again. Changing a template changes those that are made later.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bursar.budgets.book import Notice, Occasion
from bursar.budgets.budget import Budget, from_template, made_id
from bursar.budgets.matching import BudgetIndex, Call, TooManyBudgets, check_room_for

Missing = Mapping[bytes, tuple[Budget, str]]
"""By the id that the budget gets: its template, and the agent."""


class Completed(NamedTuple):
    """What calls are decided by: the index with the budgets that were made for them.

    Attributes:
        active: The very same one where nothing was made.
        made: To be stored.
        skipped: One for each agent that would meet too many budgets with another one.
    """

    active: BudgetIndex
    made: list[Budget]
    skipped: list[Notice]


def missing(index: BudgetIndex, calls: Iterable[Call]) -> Missing:
    """Return which budgets templates still owe to the agents of these calls, as far as the index knows."""
    return {
        made_id(template.id, call.agent): (template, call.agent)
        for call in calls
        for template in index.lacking(call)
    }


def completed(index: BudgetIndex, owed: Missing, known: Collection[bytes]) -> Completed:
    """Make the budgets that are owed, but for those that storage knows: they were deleted.

    Args:
        index: The active budgets; it remembers what need not be asked again.
        owed: From `missing`.
        known: Those of its ids that storage has, deleted ones included.
    """
    made: list[Budget] = []
    skipped: list[Notice] = []
    by_agent: dict[str, list[Budget]] = {}
    for terms in index.terms.values():
        by_agent.setdefault(terms.budget.scope.agent, []).append(terms.budget)
    for budget_id, (template, agent) in owed.items():
        if budget_id in known:
            index.settle_for(template, agent)
            continue
        budget = from_template(template, agent)
        near = [*by_agent.get("", ()), *by_agent.get(agent, ())]
        try:
            check_room_for(budget, near)
        except TooManyBudgets:
            index.settle_for(template, agent)
            skipped.append(Notice(Occasion.TEMPLATE_SKIPPED, None, budget=template.id, agent=agent))
        else:
            made.append(budget)
            by_agent.setdefault(agent, []).append(budget)
    return Completed(index.extended(made) if made else index, made, skipped)
