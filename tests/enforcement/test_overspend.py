"""Many callers spend one budget at once while the server is killed: a short form of `make overspend`.

The callers and their book are those of `bench/overspend.py`. Each kind of callers, with a budget of one
dollar, calls the same server at the same time; it is killed twice in the middle.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from overspend import SCENARIOS
from overspend_book import Book, Entry, Refusal
from overspend_scenarios import Outcome, run
from overspend_server import Own, own_server

SEED = int(os.environ.get("BURSAR_TEST_SEED", "20261125"))
CALLERS, ROUNDS = 20, 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    with own_server(tmp_path_factory.mktemp("overspend") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def outcomes(server: Own) -> list[Outcome]:
    async def all_at_once() -> list[Outcome]:
        first, *others = SCENARIOS
        return await asyncio.gather(
            run(server, first, CALLERS, ROUNDS, SEED, kills=True),
            *(run(server, other, CALLERS, ROUNDS, SEED, kills=False) for other in others),
        )

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=[one.name for one in SCENARIOS])
def test_every_promise_holds_and_the_windows_equal_the_callers_book(
    outcomes: list[Outcome], number: int
) -> None:
    outcome = outcomes[number]
    assert outcome.faults == [], f"seed {SEED}"
    if outcome.scenario.is_bounded:
        assert 0.9 < outcome.spent <= 1
    assert outcome.book.counts.get("granted", 0) + outcome.book.counts.get("reported", 0) > 50


def test_what_was_to_go_wrong_did(outcomes: list[Outcome]) -> None:
    assert outcomes[0].kills == 2
    seen = {what for outcome in outcomes for what, count in outcome.book.counts.items() if count}
    mishaps = {"asked again", "sent twice", "voided", "cut", "refused", "stopped"}
    assert mishaps <= seen
    assert seen & {"died", "died after the call"}


def test_callers_without_a_bound_pass_it_by_what_the_window_lists(outcomes: list[Outcome]) -> None:
    [unbound] = [one for one in outcomes if one.scenario.name == "bounds nothing"]
    assert unbound.window.overrun == unbound.book.overrun_nusd > 0


def test_callers_that_never_ask_are_over_by_what_they_did_not_ask_for(outcomes: list[Outcome]) -> None:
    [silent] = [one for one in outcomes if one.scenario.kind is None]
    assert silent.window.unheld == silent.window.settled == silent.book.spent_nusd > silent.window.limit


def test_the_file_proves_clean_afterwards(outcomes: list[Outcome], server: Own) -> None:
    assert server.verified()[0] == 0


class TestBook:
    """The book can tell: it must not be blind to what it is there to see."""

    def test_a_refusal_while_room_was_certain_is_wrong(self) -> None:
        book = Book(100)
        book.entries["a"] = Entry("a", 60, asked_at=1, granted_at=2)
        book.entries["b"] = Entry("b", 40, asked_at=3, is_refused=True)
        book.refusals = [Refusal("b", 40, 3, 4), Refusal("b", 41, 3, 4)]
        assert book.wrong_refusals() == [Refusal("b", 40, 3, 4)]

    def test_room_is_certain_only_when_the_end_was_answered_before_the_question(self) -> None:
        book = Book(100)
        ended = {"reported_nusd": 10, "ending_at": 5.0, "ended_at": 6.0}
        book.entries["a"] = Entry("a", 60, asked_at=1, granted_at=2, **ended)
        book.entries["b"] = Entry("b", 90, asked_at=5.5, is_refused=True)
        during, after = Refusal("b", 90, 5.5, 7), Refusal("b", 90, 6.5, 7)
        book.refusals = [during, after]
        assert book.wrong_refusals() == [after]

    def test_what_was_spent_beyond_its_hold_counts_from_its_settlement_on(self) -> None:
        book = Book(100)
        book.entries["a"] = Entry(
            "a", 60, asked_at=1, granted_at=2, reported_nusd=70, ending_at=5, ended_at=6
        )
        book.entries["b"] = Entry("b", 40, asked_at=3, is_refused=True)
        before, after = Refusal("b", 40, 3, 4), Refusal("b", 40, 5, 6)
        book.refusals = [before, after]
        assert book.wrong_refusals() == [before]

    def test_a_call_of_unknown_fate_may_have_taken_its_room(self) -> None:
        book = Book(100)
        book.entries["cut"] = Entry("cut", 60, asked_at=1, lapses_at=1)
        book.entries["b"] = Entry("b", 60, asked_at=2, is_refused=True)
        book.refusals = [Refusal("b", 60, 2, 3)]
        assert book.wrong_refusals() == []
        book.entries["cut"].lapsed_at = 1.5
        assert book.wrong_refusals() == book.refusals

    def test_two_grants_beyond_the_limit_are_seen_while_both_are_in_use(self) -> None:
        book = Book(100)
        book.entries["a"] = Entry("a", 60, granted_at=1, ending_at=3, reported_nusd=20)
        book.entries["b"] = Entry("b", 60, granted_at=2, ending_at=4, reported_nusd=20)
        assert book.used_at_least_nusd == 120
        book.entries["b"].granted_at = 3.5
        assert book.used_at_least_nusd == 80
