"""One-time codes: few guesses, short lives, one use; by storage, not by luck."""

import asyncio

import pytest
from signed_up import PASSWORD, accounts, sign_up

from bursar.core.errors import RateLimited
from bursar.identity import codes
from bursar.identity.accounts import CODES_BY_ACCOUNT, GUESSES_BY_ACCOUNT, GUESSES_BY_ADDRESS, WrongCode
from bursar.identity.codes import Outcome, Purpose
from bursar.storage.sql.codes import SqlCodes
from support.desk import Desk, open_desk
from support.engines import Database

USER = bytes(range(16))


def store(desk: Desk) -> SqlCodes:
    return SqlCodes(desk.treasury.store, desk.treasury.engine.readers)


def hashed(code: str, purpose: Purpose = Purpose.VERIFY, user: bytes = USER) -> bytes:
    return codes.hash_of(b"secret", user, purpose, code)


def test_a_thousand_guesses_at_once_are_five(desk: Desk) -> None:
    kept = store(desk)
    desk.run(kept.issue(USER, Purpose.VERIFY, hashed("123456"), at=desk.now))

    async def guess_all() -> list[Outcome]:
        wrong = [kept.attempt(USER, Purpose.VERIFY, hashed(f"{n:06}"), at=desk.now) for n in range(1_000)]
        return await asyncio.gather(*wrong)

    outcomes = desk.run(guess_all())
    assert outcomes.count(Outcome.WRONG) == codes.TRIES_MAX
    assert outcomes.count(Outcome.EXHAUSTED) == 1_000 - codes.TRIES_MAX
    right = desk.run(kept.attempt(USER, Purpose.VERIFY, hashed("123456"), at=desk.now))
    assert right is Outcome.EXHAUSTED


def test_a_restart_between_guesses_gives_no_more_of_them(database: Database) -> None:
    with open_desk(database) as desk:
        desk.run(store(desk).issue(USER, Purpose.VERIFY, hashed("123456"), at=desk.now))
        for _ in range(codes.TRIES_MAX):
            guessed = desk.run(store(desk).attempt(USER, Purpose.VERIFY, hashed("0"), at=desk.now))
            assert guessed is Outcome.WRONG
            desk.restart()
        right = desk.run(store(desk).attempt(USER, Purpose.VERIFY, hashed("123456"), at=desk.now))
        assert right is Outcome.EXHAUSTED


def test_a_code_is_good_once_even_for_two_at_once(desk: Desk) -> None:
    kept = store(desk)
    desk.run(kept.issue(USER, Purpose.RESET, hashed("123456", Purpose.RESET), at=desk.now))

    async def both() -> list[Outcome]:
        use = [kept.attempt(USER, Purpose.RESET, hashed("123456", Purpose.RESET), at=desk.now) for _ in "12"]
        return await asyncio.gather(*use)

    assert sorted(desk.run(both())) == [Outcome.ABSENT, Outcome.MATCHED]


def test_a_code_is_good_for_ten_minutes(desk: Desk) -> None:
    kept = store(desk)
    desk.run(kept.issue(USER, Purpose.VERIFY, hashed("1"), at=desk.now))
    late = desk.now + codes.LIFE_MICROS
    assert desk.run(kept.attempt(USER, Purpose.VERIFY, hashed("1"), at=late)) is Outcome.EXPIRED
    assert desk.run(kept.attempt(USER, Purpose.VERIFY, hashed("1"), at=late - 1)) is Outcome.MATCHED


def test_a_code_fits_one_user_and_one_purpose() -> None:
    one = hashed("123456")
    others = [hashed("123456", Purpose.RESET), hashed("123456", user=bytes(16)), hashed("123457")]
    assert one not in others
    assert one == hashed(" 123456 ")


def test_codes_are_six_digits_and_spread() -> None:
    made = [codes.generate() for _ in range(10_000)]
    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in made)
    assert len(set(made)) > 9_900
    assert {code[0] for code in made} == set("0123456789")


def test_an_old_code_is_over_when_a_new_one_is_made(desk: Desk) -> None:
    first = desk.run(accounts(desk).register("old@example.com", PASSWORD, "old")).code
    second = desk.run(accounts(desk).new_code("old@example.com", Purpose.VERIFY)).code
    if first != second:
        with pytest.raises(WrongCode):
            desk.run(accounts(desk).verify_email("old@example.com", first))
    assert desk.run(accounts(desk).verify_email("old@example.com", second)).user.verified_at


def test_new_codes_do_not_give_guesses_without_end(desk: Desk) -> None:
    """Five guesses a code and five codes an hour would be 600 a day: the account has a day's bound too."""
    person = sign_up(desk, "many@example.com", "many")
    for _ in range(CODES_BY_ACCOUNT.most):
        desk.run(accounts(desk).new_code(person.email, Purpose.RESET))
    with pytest.raises(RateLimited) as refused:
        desk.run(accounts(desk).new_code(person.email, Purpose.RESET))
    assert 0 < refused.value.retry_after_s <= CODES_BY_ACCOUNT.window_s
    evaluated = 0
    for _ in range(GUESSES_BY_ACCOUNT.most + 10):
        try:
            desk.run(accounts(desk).reset_token(person.email, "000000"))
        except WrongCode:
            evaluated += 1
        except RateLimited:
            break
    assert evaluated <= GUESSES_BY_ACCOUNT.most


def test_one_client_cannot_guess_at_many_accounts(desk: Desk) -> None:
    for number in range(GUESSES_BY_ADDRESS.most):
        with pytest.raises(WrongCode):
            desk.run(accounts(desk).reset_token(f"u{number}@example.com", "1", address="203.0.113.7"))
    with pytest.raises(RateLimited):
        desk.run(accounts(desk).reset_token("another@example.com", "1", address="203.0.113.7"))


def test_a_throttle_counts_across_a_restart_and_begins_again(database: Database) -> None:
    with open_desk(database) as desk:

        def take() -> int | None:
            return desk.run(store(desk).take("login", "a", most=2, window_s=60, at=desk.now))

        assert (take(), take()) == (None, None)
        desk.restart()
        assert take() == 60
        desk.now += 59_500_000
        assert take() == 1
        desk.now += 500_000
        assert take() is None


def test_no_code_and_no_address_lies_in_the_throttle(desk: Desk) -> None:
    desk.run(store(desk).take("login", "secret@example.com", most=1, window_s=60, at=desk.now))
    assert all(len(bytes(subject)) == 16 for (subject,) in desk.rows("SELECT subject FROM throttle"))  # type: ignore[call-overload]
