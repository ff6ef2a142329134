"""Which budgets a call meets, and how many it may meet at most."""

import time
from collections.abc import Sequence
from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_engine import numbered

from bursar.budgets.budget import Budget, Mode, Scope, ScopeKind
from bursar.budgets.matching import (
    BINDING_MAX,
    MATCHING_MAX,
    BudgetIndex,
    Call,
    TooManyBudgets,
    _some_call_meets_more,
    check_room_for,
    fits,
)
from bursar.core.periods import Period

names = st.sampled_from(["", "x", "y"])
tags = st.sets(st.sampled_from([("t", "1"), ("u", "1")])).map(lambda found: tuple(sorted(found)))
scopes = st.builds(
    Scope, project=names, agent=names, user=names, api_key=st.integers(0, 2), run=names, tags=tags,
    model=st.sampled_from(["", "gpt-*", "GPT-4?", "opus"]), provider=st.sampled_from(["", "open*"]),
)  # fmt: skip
calls = st.builds(
    Call, project=names, agent=names, user=names, api_key=st.integers(0, 2), run=names, tags=tags,
    model=st.sampled_from(["gpt-4o", "gpt-5", "Opus"]), provider=st.sampled_from(["openai", "anthropic"]),
)  # fmt: skip


def budgets_of(found: list[Scope], **fields: object) -> list[Budget]:
    return [
        Budget(**{"id": numbered(n), "limit": 1, "created_at": 1, "scope": scope, **fields})  # type: ignore[arg-type]
        for n, scope in enumerate(found, start=1)
    ]


@given(st.lists(scopes, max_size=20), st.lists(calls, max_size=6), st.sampled_from(Period))
def test_the_index_finds_what_looking_at_each_budget_finds(
    found: list[Scope], made: list[Call], period: Period
) -> None:
    budgets = budgets_of(found, period=period)
    index = BudgetIndex(budgets)
    for call in made * 2:
        matched = index.matching(call)
        expected = [b.id for b in budgets if fits(b.scope, call) and (call.run or b.period is not Period.RUN)]
        assert [terms.id for terms in matched.binding] == expected
        assert matched.watching == ()


@pytest.mark.parametrize(
    ("scope", "is_met"),
    [
        (Scope(), True),
        (Scope(agent="bot", project="p"), True),
        (Scope(agent="bot", project="q"), False),
        (Scope(model="GPT-*", provider="open?i"), True),
        (Scope(model="gpt"), False),
        (Scope(tags=(("team", "ads"),)), True),
        (Scope(tags=(("team", "ads"), ("env", "prod"))), False),
        (Scope(run="r2"), False),
        (Scope(api_key=7), True),
        (Scope(user="ann"), False),
    ],
)
def test_a_call_meets_the_scopes_all_of_whose_names_it_has(scope: Scope, is_met: bool) -> None:
    call = Call("bot", "p", "", 7, "openai", "gpt-5", "r1", (("team", "ads"),))
    assert fits(scope, call) is is_met


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        (Scope(), ScopeKind.ORGANISATION),
        (Scope(agent="a"), ScopeKind.AGENT),
        (Scope(agent="a", model="gpt-*"), ScopeKind.OTHER),
        (Scope(project="p"), ScopeKind.OTHER),
    ],
)
def test_a_scope_is_an_organisations_an_agents_or_another(scope: Scope, kind: ScopeKind) -> None:
    assert scope.kind is kind


def test_budgets_that_only_alert_watch_and_the_others_bind() -> None:
    watching = Budget(id=b"w", limit=1, created_at=1, mode=Mode.SOFT)
    matched = BudgetIndex([watching, Budget(id=b"b", limit=1, created_at=1)]).matching(Call("a"))
    assert [[terms.id for terms in part] for part in matched] == [[b"b"], [b"w"]]


def test_one_call_may_meet_sixteen_budgets_that_refuse_and_sixty_four_in_all() -> None:
    hard = budgets_of([Scope(agent="a")] * BINDING_MAX)
    soft = budgets_of([Scope(model="gpt-*")] * (MATCHING_MAX - BINDING_MAX), mode=Mode.SOFT)
    new = Budget(id=b"new", limit=1, created_at=1)
    check_room_for(new, hard[1:])
    with pytest.raises(TooManyBudgets):
        check_room_for(new, hard)
    soft = [Budget(id=b"s" + b.id, limit=1, created_at=1, scope=b.scope, mode=Mode.SOFT) for b in soft]
    check_room_for(Budget(id=b"new", limit=1, created_at=1, mode=Mode.SOFT), [*hard, *soft[1:]])
    with pytest.raises(TooManyBudgets):
        check_room_for(Budget(id=b"new", limit=1, created_at=1, mode=Mode.SOFT), [*hard, *soft])


def test_budgets_of_different_agents_or_models_do_not_add_up() -> None:
    scopes_of_many = [Scope(agent=f"a{n}", user=f"u{n % 7}") for n in range(1_000)]
    check_room_for(Budget(id=b"new", limit=1, created_at=1), budgets_of(scopes_of_many))
    models = [Scope(model=f"m-{n}") for n in range(100)]
    check_room_for(Budget(id=b"new", limit=1, created_at=1), budgets_of(models))


@given(st.lists(scopes, max_size=9), scopes, st.integers(1, 4))
def test_no_call_meets_more_than_the_bound_that_creation_keeps(
    found: list[Scope], new: Scope, most: int
) -> None:
    plain = [msgspec.structs.replace(scope, model="", provider="") for scope in (*found, new)]
    exact = [scope for scope in plain if compatible(scope, plain[-1])]
    largest = max(
        sum(fits(scope, call_of(group)) for scope in exact)
        for size in range(len(exact) + 1)
        for group in combinations(exact, size)
        if all(compatible(a, b) for a, b in combinations(group, 2))
    )
    assert _some_call_meets_more(budgets_of(exact), most) is (largest > most)


def compatible(one: Scope, other: Scope) -> bool:
    fields = ("project", "agent", "user", "api_key", "run")
    return all(
        not getattr(one, field) or not getattr(other, field) or getattr(one, field) == getattr(other, field)
        for field in fields
    ) and all(dict(other.tags).get(tag, text) == text for tag, text in one.tags)


def call_of(group: Sequence[Scope]) -> Call:
    """The call that fits every scope of a compatible group, and as little else as possible."""
    named = {
        field: next((getattr(scope, field) for scope in group if getattr(scope, field)), default)
        for field, default in (("project", ""), ("agent", ""), ("user", ""), ("api_key", 0), ("run", ""))
    }
    return Call(**named, tags=tuple({tag: None for scope in group for tag in scope.tags}))


def test_creation_is_quick_with_many_tags() -> None:
    many = [Scope(tags=((f"t{n % 20}", str(n % 2)), (f"u{n % 17}", str(n % 3)))) for n in range(400)]
    started = time.perf_counter()
    with pytest.raises(TooManyBudgets):
        check_room_for(Budget(id=b"new", limit=1, created_at=1), budgets_of(many))
    few = [Scope(tags=((f"t{n % 20}", str(n // 20)),)) for n in range(60)]
    soft = budgets_of(few * 2, mode=Mode.SOFT)
    check_room_for(Budget(id=b"new", limit=1, created_at=1, mode=Mode.SOFT), soft)
    assert time.perf_counter() - started < 2


def test_matching_stays_quick_with_a_thousand_budgets() -> None:
    index = BudgetIndex(budgets_of([Scope(agent=f"a{n}") for n in range(1_000)]))
    started = time.perf_counter()
    for n in range(2_000):
        assert len(index.matching(Call(f"a{n % 1_000}", run=str(n))).binding) == 1
    assert time.perf_counter() - started < 1
