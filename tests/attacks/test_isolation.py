"""Two organisations in one file keep apart what has the same name, key or number.

That no route lets the one see or touch the other is proved by `test_matrix`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from bursar.core.ids import Org
from bursar.identity.keys import Scope
from support.desk import Desk, event, open_desk
from support.engines import Database

CANARY = "canary-of-the-other"


class Other(NamedTuple):
    """The other organisation, and a key of it that may do everything."""

    org: Org
    key: str


@pytest.fixture
def two(database: Database) -> Iterator[tuple[Desk, Other]]:
    with open_desk(database) as desk:
        desk.ingest(event())
        other = desk.organisation("other")
        key = desk.new_key(org=other)
        desk.ingest(event(agent_name=CANARY, idempotency_key=CANARY), key=key)
        yield desk, Other(other, key)


def test_only_the_operator_may_name_an_organisation(two: tuple[Desk, Other]) -> None:
    desk, other = two
    headers = {"X-Bursar-Org": "other"}
    assert CANARY not in desk.send("GET", "/v1/events", headers=headers).text
    operator = desk.treasury.operator_token
    assert CANARY in desk.send("GET", "/v1/events", headers=headers, key=operator).text
    missing = desk.send("GET", "/v1/events", headers={"X-Bursar-Org": "none"}, key=operator)
    assert missing.status_code == 404
    assert other.key not in missing.text


def test_a_subject_known_from_a_free_key_does_not_open_a_bound_one(two: tuple[Desk, Other]) -> None:
    """Key numbers count up in each organisation: keys of two of them may have the same one."""
    desk, _ = two
    third = desk.organisation("third")
    bound = desk.new_key(Scope.INGEST, org=third, agent="mine", project="ours")
    assert desk.ingest(event(agent_name="free")).status_code == 202
    assert desk.ingest(event(agent_name="free"), key=bound).status_code == 422
    assert desk.recorded(third) == 0


def test_the_same_key_and_names_in_both_are_two_events(two: tuple[Desk, Other]) -> None:
    desk, other = two
    same = event(idempotency_key="shared", agent_name="shared", run_id="shared")
    assert desk.ingest(same).json()["duplicates"] == 0
    assert desk.ingest(same, key=other.key).json()["duplicates"] == 0
    assert desk.violations() == ()


def test_a_bound_reader_is_told_that_it_asks_for_another_agent(two: tuple[Desk, Other]) -> None:
    desk, other = two
    mine = desk.new_key(Scope.READ, org=other.org, agent="mine")
    assert desk.get(f"/v1/events/{CANARY}", key=other.key).status_code == 200
    assert desk.get(f"/v1/events/{CANARY}", key=mine).status_code == 404
    assert desk.get("/v1/events", key=mine, agent=CANARY).status_code == 403
    assert desk.get("/v1/costs", key=mine, agent=CANARY).status_code == 403
