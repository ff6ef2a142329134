"""Which budgets a call meets: an index that is quick for hundreds of budgets.

    Call  →  BudgetIndex.matching  →  Matched (binding, watching)  →  hold, settlement

Each budget lies in one bucket, by the most selective exact name of its scope; a call looks
into the buckets of its own names only. Results are kept per call without its run, because
runs are many and agents few. An index is built once and replaced when budgets change.

*Binding* budgets can change an answer and get legs of a hold; at most 16 of them may match
one call. *Watching* ones only alert and are posted to when money is spent; with them at
most 64 may match. Both are refused at creation, so that no call can ever fail for it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from bursar.budgets.budget import Budget, Scope, Terms, made_id, terms_of
from bursar.core.errors import Conflict

BINDING_MAX = 16
"""Windows one authorise touches at most."""
MATCHING_MAX = 64
"""Active budgets that may match one call."""
_CALLS_KEPT = 4_096
_PATTERNS_KEPT = 4_096
_LOOKS_MAX = 100_000
"""Scopes looked at to tell whether a budget fits in: some tenths of a second."""
_WILD = re.compile(r"[*?\[]")


class Call(NamedTuple):
    """Who makes a call, of what: the names that scopes are compared with.

    Empty is "not given". `tags` are (name, value) pairs, each name once.
    """

    agent: str = ""
    project: str = ""
    user: str = ""
    api_key: int = 0
    provider: str = ""
    model: str = ""
    run: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class Matched(NamedTuple):
    """The budgets that a call meets, each list in order of id (the order of locks)."""

    binding: tuple[Terms, ...]
    watching: tuple[Terms, ...]


class Names(NamedTuple):
    """Every lower-case name by which a scope may mean a call's model and its provider."""

    models: frozenset[str]
    providers: frozenset[str]


NamesOf = Callable[[str, str], Names]
"""(provider, model as sent) → their names: a model must not slip through by another spelling."""


def as_sent(provider: str, model: str) -> Names:
    """Return only the names that were sent, in lower case."""
    return Names(frozenset({model.lower()}), frozenset({provider.lower()}))


class TooManyBudgets(Conflict):
    """One more budget would let some call meet more budgets than we can decide at once."""

    code = "too_many_budgets"


class BudgetIndex:
    """The active budgets of one organisation, arranged for `matching`. Never changes.

    Templates are among its `terms`, but no call meets them.

    Args:
        budgets: The active ones.
        names_of: Gives a model's other names (`pricing`).
    """

    def __init__(self, budgets: Iterable[Budget], names_of: NamesOf = as_sent) -> None:
        self._names_of = names_of
        self.terms: dict[bytes, Terms] = {}
        self._by_name: dict[tuple[str, object], list[Terms]] = {}
        self._by_run: dict[str, list[Terms]] = {}
        self._kept: dict[Call, Matched] = {}
        self._templates: list[Terms] = []
        self._served: set[tuple[bytes, str]] = set()
        self._add(budgets)

    def matching(self, call: Call) -> Matched:
        """Return the budgets that count `call`. A budget per run counts only calls with a run."""
        run = call.run
        key = call._replace(run="*") if run else call
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _CALLS_KEPT:
                self._kept.clear()
            found = self._kept[key] = self._search(call)
        if run in self._by_run:
            own = [terms for terms in self._by_run[run] if self._fits(terms, call)]
            return _sorted([*found.binding, *found.watching, *own])
        return found

    def lacking(self, call: Call) -> list[Budget]:
        """Return the templates whose budget the call's agent does not have; asks no storage."""
        agent = call.agent
        if not self._templates or not agent:
            return []
        found = []
        for terms in self._templates:
            if (terms.id, agent) in self._served or not self._fits(terms, call):
                continue
            if made_id(terms.id, agent) in self.terms:
                self._served.add((terms.id, agent))
            else:
                found.append(terms.budget)
        return found

    def settle_for(self, template: Budget, agent: str) -> None:
        """Remember that an agent goes without a template's budget; an index built anew asks again."""
        self._served.add((template.id, agent))

    def extended(self, budgets: Iterable[Budget]) -> "BudgetIndex":
        """Return an index with more budgets: the work is that of the new ones, but for copies of tables."""
        more = BudgetIndex((), self._names_of)
        more.terms = dict(self.terms)
        more._by_name = dict(self._by_name)
        more._by_run = dict(self._by_run)
        more._templates = list(self._templates)
        more._served = set(self._served)
        more._add(budgets)
        return more

    def _add(self, budgets: Iterable[Budget]) -> None:
        by_run: dict[str, list[Terms]] = {}
        by_name: dict[tuple[str, object], list[Terms]] = {}
        for budget in budgets:
            terms = self.terms[budget.id] = terms_of(budget)
            scope = budget.scope
            if budget.is_template:
                self._templates.append(terms)
            elif scope.run:
                by_run.setdefault(scope.run, []).append(terms)
            else:
                by_name.setdefault(_bucket(scope), []).append(terms)
        # The lists may be those of an index that is in use, and never change.
        self._by_run.update((run, [*self._by_run.get(run, ()), *new]) for run, new in by_run.items())
        self._by_name.update((name, [*self._by_name.get(name, ()), *new]) for name, new in by_name.items())

    def _search(self, call: Call) -> Matched:
        names = [
            ("agent", call.agent), ("user", call.user), ("api_key", call.api_key),
            ("project", call.project), ("", ""), *(("tag", tag) for tag in call.tags),
        ]  # fmt: skip
        return _sorted(
            terms
            for name in names
            for terms in self._by_name.get(name, ())
            if (call.run or not terms.is_per_run) and self._fits(terms, call)
        )

    def _fits(self, terms: Terms, call: Call) -> bool:
        scope = terms.budget.scope
        is_plain = not (scope.model or scope.provider)
        return fits(scope, call, None if is_plain else self._names_of(call.provider, call.model))


def fits(scope: Scope, call: Call, names: Names | None = None) -> bool:
    """Tell whether a call belongs to a scope, the run included.

    Args:
        scope: The scope.
        call: The call.
        names: Of its model and provider; None for those it has.
    """
    models, providers = names or as_sent(call.provider, call.model)
    return (
        scope.agent in {"", call.agent}
        and scope.project in {"", call.project}
        and scope.user in {"", call.user}
        and scope.api_key in {0, call.api_key}
        and scope.run in {"", call.run}
        and (not scope.model or _glob_fits(scope.model, models))
        and (not scope.provider or _glob_fits(scope.provider, providers))
        and all(tag in call.tags for tag in scope.tags)
    )


def check_room_for(new: Budget, active: Sequence[Budget]) -> None:
    """Refuse a budget with which some call could meet too many.

    Exact for names and tags; two globs are taken to overlap. A template counts as one for
    every agent, and for those that have its budget already.

    Raises:
        TooManyBudgets: The sentence says which bound.
    """
    near = [budget for budget in _counted_with(new, active) if _may_meet(new.scope, budget.scope)]
    if _some_call_meets_more([*near, new], MATCHING_MAX):
        raise TooManyBudgets(f"some call would meet more than {MATCHING_MAX} budgets; narrow the scope")
    binding = [budget for budget in near if budget.is_binding]
    if new.is_binding and _some_call_meets_more([*binding, new], BINDING_MAX):
        raise TooManyBudgets(
            f"some call would meet more than {BINDING_MAX} budgets that can refuse it; narrow the scope"
        )


def _counted_with(new: Budget, active: Sequence[Budget]) -> Iterator[Budget]:
    """Yield the others, but of a template and what it made only one: no call meets both."""
    templates = [budget for budget in (*active, new) if budget.is_template]
    for budget in active:
        is_made = any(
            budget.id == made_id(template.id, budget.scope.agent)
            for template in templates
            if template.is_binding or not budget.is_binding
        )
        makes_new = budget.is_template and new.id == made_id(budget.id, new.scope.agent)
        if budget.id != new.id and not (is_made or makes_new):
            yield budget


def _some_call_meets_more(budgets: Sequence[Budget], most: int) -> bool:
    """Tell whether one call can belong to more than `most` of the scopes at once.

    Splits by one name after the other; a group that cannot exceed is not looked into. Where
    that would take too long the answer is yes, which refuses one budget too many.
    """
    exact = [_exact_names(budget.scope) for budget in budgets]
    counts = Counter(name for names in exact for name in names)
    # The name that most scopes fix comes first: it leaves the smallest groups.
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return _splits_into_more(exact, names, most, iter(range(_LOOKS_MAX)))


def _splits_into_more(
    scopes: Sequence[dict[str, object]], names: Sequence[str], most: int, looks: Iterator[int]
) -> bool:
    if len(list(islice(looks, len(scopes)))) < len(scopes):
        return True
    if _bound(scopes, names) <= most:
        return False
    if not names:
        return True
    name, *rest = names
    free = [scope for scope in scopes if name not in scope]
    groups: dict[object, list[dict[str, object]]] = {}
    for scope in scopes:
        if name in scope:
            groups.setdefault(scope[name], []).append(scope)
    # A call of some value meets those of its group, and no more of the others than it could without.
    enough = most - _bound(free, rest)
    largest = sorted((group for group in groups.values() if len(group) > enough), key=len, reverse=True)
    if not largest and enough < 0:
        largest = [[]]
    return any(_splits_into_more([*free, *group], rest, most, looks) for group in largest)


def _bound(scopes: Sequence[dict[str, object]], names: Sequence[str]) -> int:
    """Return a number of scopes that one call can never exceed: each counted at its first name."""
    groups: dict[str, Counter[object]] = {}
    free = 0
    for scope in scopes:
        first = next((name for name in names if name in scope), None)
        if first is None:
            free += 1
        else:
            groups.setdefault(first, Counter())[scope[first]] += 1
    return free + sum(max(group.values()) for group in groups.values())


def _exact_names(scope: Scope) -> dict[str, object]:
    """Return the names that a scope fixes to one value."""
    names: dict[str, object] = {f"tag:{tag}": text for tag, text in scope.tags}
    for field in ("project", "agent", "user", "api_key", "run"):
        if getattr(scope, field):
            names[field] = getattr(scope, field)
    for field in ("model", "provider"):
        pattern = getattr(scope, field)
        if pattern and not _WILD.search(pattern):
            names[field] = pattern.lower()
    return names


def _may_meet(one: Scope, other: Scope) -> bool:
    mine, theirs = _exact_names(one), _exact_names(other)
    return all(theirs.get(name, value) == value for name, value in mine.items())


def _bucket(scope: Scope) -> tuple[str, object]:
    for field in ("agent", "user", "api_key", "project"):
        if getattr(scope, field):
            return field, getattr(scope, field)
    return ("tag", scope.tags[0]) if scope.tags else ("", "")


def _sorted(found: Iterable[Terms]) -> Matched:
    ordered = sorted(found, key=lambda terms: terms.id)
    binding = tuple(terms for terms in ordered if terms.budget.is_binding)
    return Matched(binding, tuple(terms for terms in ordered if not terms.budget.is_binding))


def _glob_fits(pattern: str, names: Iterable[str]) -> bool:
    fits_one = _compiled(pattern).match
    return any(fits_one(name) is not None for name in names)


@lru_cache(_PATTERNS_KEPT)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.lower()))
