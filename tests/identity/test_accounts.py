"""Accounts: what ends a session ends it at once, and a stranger learns nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from signed_up import OPERATOR, PASSWORD, Person, accounts, log_in, people, sign_up, status

from bursar.core.errors import AppError, Conflict, Denied, InvalidInput, RateLimited, Unauthenticated
from bursar.core.ids import new_id
from bursar.identity.accounts import LOGINS_BY_ACCOUNT, EmailUnverified, WrongCode
from bursar.identity.codes import Purpose
from bursar.identity.passwords import LENGTH_MAX, WAITING_MAX, Passwords, check_policy
from bursar.identity.roles import Role
from bursar.identity.users import normal_email
from support.desk import Desk, event, open_desk
from support.engines import Database

NEW_PASSWORD = "another horse entirely"
DAY_S = 86_400
OWNER = Role.OWNER


def test_from_registration_to_a_key_that_records(desk: Desk) -> None:
    issued = desk.run(accounts(desk).register("Alice@Example.COM ", PASSWORD, "Acme", first_name="Alice"))
    with pytest.raises(EmailUnverified):
        desk.run(accounts(desk).log_in("alice@example.com", PASSWORD))
    signed = desk.run(accounts(desk).verify_email("alice@example.com", issued.code))
    assert (signed.user.email, signed.membership.org_name) == ("alice@example.com", "Acme")
    key = desk.post("/v1/keys", {"name": "first"}, key=signed.token).json()["raw_key"]
    assert desk.ingest(event(), key=key).status_code == 202
    assert desk.recorded(signed.membership.org) == 1


def test_an_address_has_one_account_however_it_is_written(desk: Desk) -> None:
    sign_up(desk, "twice@example.com")
    with pytest.raises(Conflict, match="already exists"):
        desk.run(accounts(desk).register("TWICE@example.com", PASSWORD, "x"))


def test_two_at_once_with_one_address_are_one_account(desk: Desk) -> None:
    async def both() -> list[object]:
        tries = [accounts(desk).register("race@example.com", PASSWORD, "race") for _ in range(2)]
        return await asyncio.gather(*tries, return_exceptions=True)

    refused = [one for one in desk.run(both()) if isinstance(one, Conflict)]
    assert len(refused) == 1
    assert desk.one("SELECT count(*) FROM user_account WHERE email = 'race@example.com'") == (1,)
    assert desk.one("SELECT count(*) FROM organisation WHERE name LIKE 'race%'") == (1,)


def test_organisations_of_one_name_are_told_apart(desk: Desk) -> None:
    sign_up(desk, "one@example.com", "Same")
    sign_up(desk, "two@example.com", "Same")
    names = {name for (name,) in desk.rows("SELECT name FROM organisation WHERE name LIKE 'Same%'")}
    assert names == {"Same", "Same (2)"}


def test_who_is_unknown_costs_as_much_and_hears_the_same(desk: Desk) -> None:
    sign_up(desk, "known@example.com")
    passwords = desk.treasury.identity.passwords
    heard = []
    for email, password in [
        ("known@example.com", "wrong password"),
        ("nobody@example.com", "wrong password"),
        ("no address at all", "wrong password"),
        ("known@example.com", "x" * (LENGTH_MAX + 1)),
        ("nobody@example.com", ""),
    ]:
        before = passwords.verifications
        with pytest.raises(Unauthenticated) as refused:
            desk.run(accounts(desk).log_in(email, password))
        assert passwords.verifications == before + 1
        heard.append((refused.value.code, refused.value.detail, refused.value.field))
    assert len(set(heard)) == 1


def test_a_forgotten_password_writes_as_much_for_nobody(tmp_path: Path) -> None:
    """On SQLite, which counts what a connection writes."""
    counted = []
    with open_desk(tmp_path) as desk:
        sign_up(desk, "forgot@example.com")
        for email in ("forgot@example.com", "nobody.at.all@example.com"):
            before = desk.treasury.store._writer.total_changes
            desk.run(accounts(desk).new_code(email, Purpose.RESET, address="192.0.2.1"))
            counted.append(desk.treasury.store._writer.total_changes - before)
    assert counted[0] == counted[1] > 0


def logged_out(desk: Desk, person: Person) -> Awaitable[object]:
    session = desk.run(
        desk.treasury.authenticator.principal([(b"authorization", f"Bearer {person.token}".encode())])
    ).session
    return accounts(desk).log_out(session)


def reset(desk: Desk, person: Person) -> Awaitable[object]:
    code = desk.run(accounts(desk).new_code(person.email, Purpose.RESET)).code
    token = desk.run(accounts(desk).reset_token(person.email, code))
    return accounts(desk).reset_password(token, NEW_PASSWORD)


def changed(desk: Desk, person: Person) -> Awaitable[object]:
    return accounts(desk).change_password(person.user, PASSWORD, NEW_PASSWORD)


def set_by_operator(desk: Desk, person: Person) -> Awaitable[object]:
    return people(desk).set_password(person.org, person.user, NEW_PASSWORD, by=OPERATOR)


def disabled(desk: Desk, person: Person) -> Awaitable[object]:
    desk.run(people(desk).add_verified(person.org, "heir@example.com", PASSWORD, OWNER, by=OPERATOR))
    return people(desk).set_disabled(person.org, person.user, is_disabled=True, by=OPERATOR)


ENDS: list[Callable[[Desk, Person], Awaitable[object]]] = [
    logged_out,
    reset,
    changed,
    set_by_operator,
    disabled,
]


@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_session_ends_it_at_once_and_for_the_grace(
    database: Database, end: Callable[[Desk, Person], Awaitable[object]]
) -> None:
    with open_desk(database) as desk:
        person = sign_up(desk, "ends@example.com")
        assert status(desk, person.token) == 200
        desk.run(end(desk, person))
        assert status(desk, person.token) == 401
        with pytest.raises(AppError):
            desk.run(accounts(desk).refresh(person.token))
        if end in {reset, changed, set_by_operator}:
            assert status(desk, log_in(desk, person.email, NEW_PASSWORD).token) == 200
        if end is disabled:
            with pytest.raises(Unauthenticated):
                log_in(desk, person.email)


def test_a_change_elsewhere_is_seen_within_a_second(database: Database) -> None:
    """Another process would not empty our cache: only its age bounds it."""
    with open_desk(database) as desk:
        person = sign_up(desk, "elsewhere@example.com")
        assert status(desk, person.token) == 200
        desk.run(accounts(desk).sessions.end_all(person.user, at=desk.now))
        desk.run(asyncio.sleep(1.0))
        assert status(desk, person.token) == 401


def test_a_refresh_has_a_grace_of_a_day_and_keeps_the_session(database: Database) -> None:
    with open_desk(database) as desk:
        person = sign_up(desk, "refresh@example.com")
        desk.now += DAY_S * 1_000_000
        desk.treasury.authenticator.forget()
        assert status(desk, person.token) == 401
        desk.now += (DAY_S - 1) * 1_000_000
        fresh = desk.run(accounts(desk).refresh(person.token))
        assert status(desk, fresh.token) == 200
        desk.now += 1_000_000
        with pytest.raises(Unauthenticated):
            desk.run(accounts(desk).refresh(person.token))


def test_a_reset_token_is_good_once_and_for_five_minutes(desk: Desk) -> None:
    person = sign_up(desk, "once@example.com")
    code = desk.run(accounts(desk).new_code(person.email, Purpose.RESET)).code
    token = desk.run(accounts(desk).reset_token(person.email, code))
    with pytest.raises(WrongCode):
        desk.run(accounts(desk).reset_token(person.email, code))
    with pytest.raises(InvalidInput):
        desk.run(accounts(desk).reset_password(token, "short"))
    with pytest.raises(Unauthenticated):
        desk.run(accounts(desk).reset_password(person.token, NEW_PASSWORD))
    desk.run(accounts(desk).reset_password(token, NEW_PASSWORD))
    with pytest.raises(Unauthenticated):
        desk.run(accounts(desk).reset_password(token, PASSWORD))
    fresh = desk.run(accounts(desk).new_code(person.email, Purpose.RESET)).code
    late = desk.run(accounts(desk).reset_token(person.email, fresh))
    desk.now += 300_000_000
    with pytest.raises(Unauthenticated):
        desk.run(accounts(desk).reset_password(late, PASSWORD))


def test_a_wrong_current_password_changes_nothing(desk: Desk) -> None:
    person = sign_up(desk, "current@example.com")
    with pytest.raises(Denied):
        desk.run(accounts(desk).change_password(person.user, "not this one", NEW_PASSWORD))
    assert status(desk, person.token) == 200


def test_guessing_at_one_account_is_slowed_and_a_success_forgives(desk: Desk) -> None:
    person = sign_up(desk, "slow@example.com")
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            log_in(desk, person.email, "wrong password")
    log_in(desk, person.email)
    for _ in range(LOGINS_BY_ACCOUNT.most):
        with pytest.raises(Unauthenticated):
            log_in(desk, person.email, "wrong password")
    with pytest.raises(RateLimited):
        log_in(desk, person.email)


@pytest.mark.parametrize(
    "password", ["", "short", "1234567", "password", "PASSWORD1", "x" * 257, "me@x.example"]
)
def test_a_weak_password_is_refused_by_name(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_policy(password, email="me@x.example")
    assert refused.value.field == "password"


@pytest.mark.parametrize("password", ["zebra crossing", "пароль-из-слов", "x y z x y z", "x" * 256])
def test_any_other_is_taken(password: str) -> None:
    assert check_policy(password) == password


@pytest.mark.parametrize(
    "text",
    ["", "@", "a@", "@b", "a b@c.d", "a@b c", "a@b@c", "a\x00@b.c", "a\n@b.c", "x" * 65 + "@b.c", "<a@b.c>"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        normal_email(text)


def test_hashes_are_made_a_few_at_a_time_off_the_loop() -> None:
    async def flood() -> tuple[list[object], int]:
        passwords = Passwords(memory_kib=8, rounds=1)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        hashes = [passwords.hash("x") for _ in range(WAITING_MAX + 10)]
        answers = await asyncio.gather(*hashes, return_exceptions=True)
        counting.cancel()
        passwords.close()
        return list(answers), turns

    answers, turns = asyncio.run(flood())
    refused = [one for one in answers if isinstance(one, RateLimited)]
    assert len(refused) == 10
    assert turns > 0


def test_a_hash_by_older_parameters_is_made_anew(desk: Desk) -> None:
    person = sign_up(desk, "older@example.com")

    async def weaker() -> str:
        old = Passwords(memory_kib=8, rounds=1)
        made = await old.hash(PASSWORD)
        old.close()
        return made

    user = desk.run(accounts(desk).users.find(person.user))
    assert user is not None
    desk.run(accounts(desk).users.replace_hash(person.user, user.password_hash, desk.run(weaker())))
    log_in(desk, person.email)
    after = desk.run(accounts(desk).users.find(person.user))
    assert after is not None
    assert after.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert status(desk, person.token) == 200


def test_an_outside_subject_is_one_users(desk: Desk) -> None:
    person, other = sign_up(desk, "sso@example.com"), sign_up(desk, "sso2@example.com")
    users = accounts(desk).users
    desk.run(users.link_external(person.user, "https://issuer.example", "s1", at=desk.now))
    desk.run(users.link_external(person.user, "https://issuer.example", "s1", at=desk.now))
    with pytest.raises(Conflict):
        desk.run(users.link_external(other.user, "https://issuer.example", "s1", at=desk.now))
    found = desk.run(users.find_external("https://issuer.example", "s1"))
    assert found is not None
    assert found.id == person.user
    assert desk.run(users.find_external("https://other.example", "s1")) is None


def test_a_session_that_nobody_began_is_none(desk: Desk) -> None:
    assert desk.run(accounts(desk).sessions.find(new_id())) is None
