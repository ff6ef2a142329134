"""A person's own tokens: made from a session, listed without their text, ended at once."""

from collections.abc import Iterator

import pytest

from bursar.identity.people import Decider
from bursar.identity.roles import Role
from support.desk import Desk, open_desk
from support.engines import Database

PASSWORD = "correct horse battery"
OPERATOR = Decider("operator", None, is_operator=True)
DAY_S = 86_400


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def session(desk: Desk, email: str) -> str:
    """Make a member and return an access token of theirs."""
    people = desk.treasury.identity.people
    desk.run(people.add_verified(desk.org, email, PASSWORD, Role.MEMBER, by=OPERATOR))
    answer = desk.post("/v1/auth/login", {"email": email, "password": PASSWORD}, key="")
    return str(answer.json()["access_token"])


def test_a_token_acts_as_its_person_until_it_is_ended(desk: Desk) -> None:
    mine = session(desk, "alice@example.com")
    made = desk.post("/v1/auth/tokens", {"name": "script"}, key=mine)
    assert (made.status_code, made.json()["token"][:3]) == (201, "bp_")
    token = made.json()["token"]
    assert desk.get("/v1/auth/me", key=token).json()["email"] == "alice@example.com"
    (shown,) = desk.get("/v1/auth/tokens", key=token).json()["data"]
    assert shown["name"] == "script"
    assert token not in str(shown)
    for _ in range(2):
        assert desk.send("DELETE", f"/v1/auth/tokens/{made.json()['id']}", key=mine).status_code == 204
    assert desk.get("/v1/auth/me", key=token).status_code == 401
    assert desk.get("/v1/auth/tokens", key=mine).json()["data"][0]["revoked_at"] is not None


def test_a_token_ends_at_its_time(desk: Desk) -> None:
    mine = session(desk, "alice@example.com")
    body = {"name": "script", "expires_in_days": 1}
    made = desk.post("/v1/auth/tokens", body, key=mine).json()
    assert made["expires_at"] == "2026-03-03T00:00:00Z"
    desk.advance(DAY_S + 1)
    assert desk.get("/v1/auth/me", key=made["token"]).status_code == 401


def test_a_token_cannot_make_another(desk: Desk) -> None:
    token = desk.post("/v1/auth/tokens", {"name": "a"}, key=session(desk, "alice@example.com")).json()[
        "token"
    ]
    assert desk.post("/v1/auth/tokens", {"name": "b"}, key=token).status_code == 403


def test_a_colleague_sees_and_ends_nothing_of_it(desk: Desk) -> None:
    made = desk.post("/v1/auth/tokens", {"name": "a"}, key=session(desk, "alice@example.com")).json()
    theirs = session(desk, "bob@example.com")
    assert desk.get("/v1/auth/tokens", key=theirs).json()["data"] == []
    assert desk.send("DELETE", f"/v1/auth/tokens/{made['id']}", key=theirs).status_code == 404
    assert desk.get("/v1/auth/me", key=made["token"]).status_code == 200


def test_an_api_key_has_no_personal_tokens(desk: Desk) -> None:
    assert desk.get("/v1/auth/tokens").status_code == 403


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a", "expires_in_days": 0}])
def test_a_wrong_body_names_its_field(desk: Desk, body: dict[str, object]) -> None:
    answer = desk.post("/v1/auth/tokens", body, key=session(desk, "alice@example.com"))
    assert answer.status_code == 422, answer.text
    assert desk.rows("SELECT count(*) FROM personal_token") == [(0,)]
