"""Roles, invitations and personal tokens: nobody gets more than was given, and one owner always stays."""

import asyncio

import pytest
from signed_up import OPERATOR, PASSWORD, Person, join, log_in, people, sign_up, status

from bursar.core.errors import Conflict, InvalidInput, NotFound
from bursar.core.ids import text_from_id
from bursar.identity.invitations import LIFE_MICROS
from bursar.identity.people import TOKENS_MAX, Decider
from bursar.identity.roles import Role
from support.desk import Desk, open_desk
from support.engines import Database, kept_bytes

READS = ["/v1/events", "/v1/budgets", "/v1/costs"]
ADMINISTERS = ["/v1/keys", "/v1/audit"]


def invite(desk: Desk, by: Person, email: str, role: str = "member") -> dict[str, str]:
    """Invite as an owner does; the code, which the answer leaves to the mail, stands beside it."""
    decider = Decider(f"user:{by.user_text}", Role.OWNER)
    made = desk.run(people(desk).invite(by.org, email, Role(role), by=decider))
    return {"id": text_from_id("inv", made.invitation.id), "code": made.code}


def test_an_administrator_does_not_learn_the_code_that_proves_somebodys_address(desk: Desk) -> None:
    owner = sign_up(desk, "curious@example.com", "curious")
    offer = {"email": "victim@example.com", "role": "member"}
    answer = desk.post(f"/v1/organisations/{owner.org_text}/invitations", offer, key=owner.token)
    assert answer.status_code == 201
    assert "inv_" not in answer.text.replace(answer.json()["id"], "")


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gives_what_the_table_says(desk: Desk, role: Role) -> None:
    person = join(desk, f"{role}@roles.example", role, desk.org)
    assert {status(desk, person.token, path) for path in READS} == {200}
    administers = 200 if role in {Role.OWNER, Role.ADMIN} else 403
    assert {status(desk, person.token, path) for path in ADMINISTERS} == {administers}
    members = f"/v1/organisations/{person.org_text}/members"
    assert status(desk, person.token, members) == (403 if role is Role.VIEWER else 200)
    made = desk.post("/v1/keys", {"name": "k", "scopes": ["admin"]}, key=person.token)
    assert made.status_code == (201 if administers == 200 else 403)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE, Role.MEMBER, Role.VIEWER])
def test_nobody_raises_themselves_or_makes_an_owner(desk: Desk, role: Role) -> None:
    person = join(desk, f"{role}@rise.example", role, desk.org)
    join(desk, "owner@rise.example", Role.OWNER, desk.org)
    base = f"/v1/organisations/{person.org_text}"
    own = f"{base}/members/{person.user_text}"
    assert desk.send("PATCH", own, key=person.token, json={"role": "owner"}).status_code == 403
    offer = {"email": "x@rise.example", "role": "owner"}
    assert desk.post(f"{base}/invitations", offer, key=person.token).status_code == 403
    assert desk.send("PATCH", own, key=person.token, json={"disabled": False}).status_code == 403
    assert desk.send("PATCH", own, key=person.token, json={"password": "a new long one"}).status_code == 403
    assert desk.post(f"{own}/tokens", {"name": "t"}, key=person.token).status_code == 403
    vouched = {"email": "y@rise.example", "password": PASSWORD, "role": "owner"}
    assert desk.post(f"{base}/members", vouched, key=person.token).status_code == 403


def test_an_admin_does_not_touch_an_owner(desk: Desk) -> None:
    admin = join(desk, "admin@touch.example", Role.ADMIN, desk.org)
    owner = join(desk, "owner@touch.example", Role.OWNER, desk.org)
    path = f"/v1/organisations/{owner.org_text}/members/{owner.user_text}"
    assert desk.send("PATCH", path, key=admin.token, json={"role": "viewer"}).status_code == 403
    assert desk.send("DELETE", path, key=admin.token).status_code == 403
    assert status(desk, owner.token, "/v1/keys") == 200


def test_the_last_owner_stays_even_when_two_leave_at_once(database: Database) -> None:
    with open_desk(database) as desk:
        one = join(desk, "one@example.com", Role.OWNER, desk.org)
        path = f"/v1/organisations/{one.org_text}/members"
        assert desk.send("DELETE", f"{path}/{one.user_text}", key=one.token).status_code == 409
        two = join(desk, "two@example.com", Role.OWNER, desk.org)

        async def both() -> list[object]:
            leave = [people(desk).remove(desk.org, user, by=OPERATOR) for user in (one.user, two.user)]
            return await asyncio.gather(*leave, return_exceptions=True)

        assert [type(outcome) for outcome in desk.run(both())] == [type(None), Conflict]
        (left,) = desk.run(people(desk).members(desk.org))
        with pytest.raises(Conflict):
            desk.run(people(desk).set_role(desk.org, left.user.id, Role.ADMIN, by=OPERATOR))
        with pytest.raises(Conflict):
            desk.run(people(desk).set_disabled(desk.org, left.user.id, is_disabled=True, by=OPERATOR))


def test_a_lower_role_counts_at_once(desk: Desk) -> None:
    person = join(desk, "lower@example.com", Role.ADMIN, desk.org)
    assert status(desk, person.token, "/v1/keys") == 200
    desk.run(people(desk).set_role(desk.org, person.user, Role.VIEWER, by=OPERATOR))
    assert status(desk, person.token, "/v1/keys") == 403


def test_an_invitation_is_good_once_for_its_address(desk: Desk) -> None:
    owner = sign_up(desk, "host@example.com", "hosts")
    made = invite(desk, owner, "Guest@Example.com", "finance")
    user, place = desk.run(people(desk).accept(made["code"], PASSWORD, first_name="Guest"))
    assert (user.email, place.role, place.org) == ("guest@example.com", Role.FINANCE, owner.org)
    assert status(desk, log_in(desk, user.email).token) == 200
    with pytest.raises(NotFound):
        desk.run(people(desk).accept(made["code"], PASSWORD))


def test_an_invitation_ends_by_time_revocation_and_a_newer_one(desk: Desk) -> None:
    owner = sign_up(desk, "host2@example.com", "hosts two")
    first = invite(desk, owner, "late@example.com")
    second = invite(desk, owner, "late@example.com")
    third = invite(desk, owner, "other@example.com")
    path = f"/v1/organisations/{owner.org_text}/invitations/{third['id']}"
    assert desk.send("DELETE", path, key=owner.token).status_code == 204
    for code in (first["code"], third["code"], "inv_nothing", ""):
        with pytest.raises(NotFound):
            desk.run(people(desk).accept(code, PASSWORD))
    before = desk.now
    desk.now += LIFE_MICROS
    with pytest.raises(NotFound):
        desk.run(people(desk).accept(second["code"], PASSWORD))
    desk.now = before


def test_an_invitation_of_two_at_once_makes_one_user(desk: Desk) -> None:
    owner = sign_up(desk, "host3@example.com", "hosts three")
    code = invite(desk, owner, "pair@example.com")["code"]

    async def both() -> list[object]:
        return await asyncio.gather(
            *[people(desk).accept(code, PASSWORD) for _ in "12"], return_exceptions=True
        )

    assert sum(isinstance(one, NotFound) for one in desk.run(both())) == 1


def test_a_known_user_joins_with_the_password_it_has(desk: Desk) -> None:
    owner, guest = (
        sign_up(desk, "host4@example.com", "hosts four"),
        sign_up(desk, "known4@example.com", "own"),
    )
    code = invite(desk, owner, guest.email, "viewer")["code"]
    desk.now += 1_000_000
    desk.run(people(desk).accept(code))
    places = desk.run(people(desk).memberships(guest.user))
    assert [(place.org_name, place.role) for place in places] == [
        ("own", Role.OWNER),
        ("hosts four", Role.VIEWER),
    ]
    there = f"/v1/organisations/{owner.org_text}/members/{owner.user_text}"
    assert desk.send("PATCH", there, key=guest.token, json={"role": "viewer"}).status_code == 403


def test_no_code_and_no_token_lies_in_the_database(desk: Desk) -> None:
    owner = sign_up(desk, "secret@example.com", "secrets")
    code = invite(desk, owner, "s@example.com")["code"]
    _, token = desk.run(people(desk).create_token(owner.user, "t"))
    kept = kept_bytes(desk.database)
    for secret in (code, token, PASSWORD, owner.token):
        assert secret.encode() not in kept


def test_a_personal_token_acts_in_each_of_the_users_organisations(desk: Desk) -> None:
    person = sign_up(desk, "pat@example.com", "first of pat")
    other = sign_up(desk, "boss@example.com", "second of pat")
    desk.run(people(desk).add_verified(other.org, person.email, "", Role.VIEWER, by=OPERATOR))
    _, token = desk.run(people(desk).create_token(person.user, "t"))

    def asked(path: str, org: str = "") -> int:
        headers = {"X-Bursar-Org": org} if org else {}
        return desk.send("GET", path, key=token, headers=headers).status_code

    assert (asked("/v1/keys"), asked("/v1/keys", "first of pat"), asked("/v1/keys", person.org_text)) == (
        200,
    ) * 3
    assert (asked("/v1/keys", "second of pat"), asked("/v1/events", other.org_text)) == (403, 200)
    assert (asked("/v1/events", "first"), asked("/v1/events", "nobodys")) == (404, 404)
    assert asked("/v1/keys") == 200


def test_a_personal_token_ends_at_once_by_revocation_time_and_disabling(database: Database) -> None:
    with open_desk(database) as desk:
        owner = join(desk, "owner@example.com", Role.OWNER, desk.org)
        person = join(desk, "pat@example.com", Role.MEMBER, desk.org)
        first, text = desk.run(people(desk).create_token(person.user, "one"))
        _, short = desk.run(people(desk).create_token(person.user, "two", expires_at=desk.now + 1_000_000))
        _, third = desk.run(people(desk).create_token(person.user, "three"))
        assert {status(desk, one) for one in (text, short, third)} == {200}
        with pytest.raises(NotFound):
            desk.run(people(desk).revoke_token(owner.user, first.id))
        desk.run(people(desk).revoke_token(person.user, first.id))
        desk.now += 1_000_000
        desk.treasury.authenticator.forget()
        assert [status(desk, one) for one in (text, short, third)] == [401, 401, 200]
        desk.run(people(desk).set_disabled(desk.org, person.user, is_disabled=True, by=OPERATOR))
        assert status(desk, third) == 401
        desk.run(people(desk).set_disabled(desk.org, person.user, is_disabled=False, by=OPERATOR))
        assert status(desk, third) == 200
        desk.run(desk.treasury.authenticator.flush())
        used = {row[0] for row in desk.rows("SELECT name FROM personal_token WHERE last_used_at IS NOT NULL")}
        assert used == {"one", "two", "three"}


def test_tokens_are_bounded(desk: Desk) -> None:
    person = sign_up(desk, "hundred@example.com", "hundred")
    for _ in range(TOKENS_MAX):
        desk.run(people(desk).create_token(person.user, "t"))
    with pytest.raises(InvalidInput):
        desk.run(people(desk).create_token(person.user, "one more"))


def test_a_near_miss_of_a_personal_token_is_refused(desk: Desk) -> None:
    person = sign_up(desk, "near@example.com", "near")
    _, text = desk.run(people(desk).create_token(person.user, "t"))
    assert status(desk, text) == 200
    for miss in (
        text[:-1],
        text + "0",
        text.upper(),
        text.replace("bp_", "ak_local_"),
        text[:9] + "z" + text[10:],
    ):
        assert status(desk, miss) == 401


def test_every_change_of_people_is_in_the_audit_log(database: Database) -> None:
    with open_desk(database) as desk:
        owner = join(desk, "owner@example.com", Role.OWNER, desk.org)
        member = join(desk, "member@example.com", Role.MEMBER, desk.org)
        code = invite(desk, owner, "guest@example.com")["code"]
        desk.run(people(desk).accept(code, PASSWORD))
        token, _ = desk.run(people(desk).create_token(member.user, "t"))
        desk.run(people(desk).revoke_token(member.user, token.id))
        desk.run(people(desk).set_role(desk.org, member.user, Role.ADMIN, by=OPERATOR))
        desk.run(people(desk).set_password(desk.org, member.user, "a new long one", by=OPERATOR))
        desk.run(people(desk).set_disabled(desk.org, member.user, is_disabled=True, by=OPERATOR))
        desk.run(people(desk).remove(desk.org, member.user, by=OPERATOR))
        logged = desk.get("/v1/audit", limit="200").json()["data"]
        assert {one["action"] for one in logged} >= {
            "member.add", "invitation.create", "invitation.accept", "token.create", "token.revoke",
            "member.set_role", "user.set_password", "user.disable", "member.remove",
        }  # fmt: skip
        accepted = next(one for one in logged if one["action"] == "invitation.accept")
        assert accepted["actor"].startswith("user:usr_")
        assert PASSWORD not in str(logged)
        assert {one["target"] for one in logged if one["action"] == "member.remove"} == {
            text_from_id("usr", member.user)
        }


def test_finance_changes_budgets_and_prices_and_stops_nobody(desk: Desk) -> None:
    finance = join(desk, "cfo@example.com", Role.FINANCE, desk.org)
    member = join(desk, "dev@example.com", Role.MEMBER, desk.org)
    budget = {"name": "b", "scope": {}, "limit": "1"}
    price = {"pattern": "m-of-finance", "percent": -10}
    for path, body in (("/v1/budgets", budget), ("/v1/prices", price)):
        assert desk.post(path, body, key=finance.token).status_code == 201
        assert desk.post(path, body, key=member.token).status_code == 403
    for person in (finance, member):
        assert desk.post("/v1/agents/kill-all", {}, key=person.token).status_code == 403
        assert desk.ingest({}, key=person.token).status_code == 403
