"""People and keys when two processes do the same at one moment: one of them wins, the other hears why."""

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from bursar.budgets.estimate import OutputSketch
from bursar.core.errors import Conflict, NotFound, Unauthenticated
from bursar.core.ids import Org, new_id, text_from_id
from bursar.core.usage import RateLine
from bursar.directory.organisations import Organisation
from bursar.enforcement.sketches import Learned, SketchKey
from bursar.identity import codes, keys
from bursar.identity.accounts import SignedIn
from bursar.identity.codes import Outcome, Purpose
from bursar.identity.people import Decider
from bursar.identity.roles import Role
from bursar.identity.tokens import TokenType
from bursar.identity.users import User
from bursar.pricing.overrides import OverrideKind, PriceOverride
from bursar.storage.sql.codes import SqlCodes
from bursar.storage.sql.prices import SqlPrices
from bursar.storage.sql.sketches import SqlSketches
from support.fleet import Fleet

PASSWORD = "correct horse battery"
OPERATOR = Decider("operator", None, is_operator=True)
KINDS = (TokenType.ACCESS, TokenType.RESET)
ROUNDS = 5
"""How often each meeting takes place: a race that is lost once in ten shows by then, mostly."""


def absolute(pattern: str, rate: int) -> PriceOverride:
    lines = (RateLine("input_tokens", rate), RateLine("output_tokens", rate))
    return PriceOverride(pattern=pattern, kind=OverrideKind.ABSOLUTE, lines=lines)


def outcomes(results: Sequence[object]) -> Counter[str]:
    """Return how often which error came; `fine` stands for a result."""
    return Counter(type(one).__name__ if isinstance(one, BaseException) else "fine" for one in results)


def member(fleet: Fleet, org: Org, role: Role = Role.OWNER) -> bytes:
    """Make a user with a role in an organisation; return its id."""
    email = f"{uuid.uuid4().hex}@example.com"
    people = fleet.first.identity.people
    return fleet.run(people.add_verified(org, email, PASSWORD, role, by=OPERATOR)).user.id


def owners(fleet: Fleet, org: Org) -> list[bytes]:
    return [
        row[0]
        for row in fleet.database.rows(
            """SELECT m.user FROM membership AS m JOIN user_account AS u ON u.id = m.user
                WHERE m.org = ? AND m.role = 'owner' AND u.disabled_at IS NULL""",
            org,
        )
    ]


def test_two_hundred_guesses_over_two_processes_are_five(fleet: Fleet) -> None:
    user, at = new_id(), fleet.first.clock()
    stores = [SqlCodes(one.store, one.engine.readers) for one in fleet.treasuries]
    wanted = codes.hash_of(b"secret", user, Purpose.VERIFY, "123456")
    wrong = codes.hash_of(b"secret", user, Purpose.VERIFY, "000000")
    fleet.run(stores[0].issue(user, Purpose.VERIFY, wanted, at=at))
    guesses = [stores[n % 2].attempt(user, Purpose.VERIFY, wrong, at=at) for n in range(200)]
    heard = Counter(fleet.at_once(*guesses))
    assert heard == {Outcome.WRONG: codes.TRIES_MAX, Outcome.EXHAUSTED: 200 - codes.TRIES_MAX}
    assert fleet.run(stores[1].attempt(user, Purpose.VERIFY, wanted, at=at)) is Outcome.EXHAUSTED


def test_a_code_is_good_once_for_two_processes(fleet: Fleet) -> None:
    stores = [SqlCodes(one.store, one.engine.readers) for one in fleet.treasuries]
    for _ in range(ROUNDS):
        user, at = new_id(), fleet.first.clock()
        wanted = codes.hash_of(b"secret", user, Purpose.RESET, "123456")
        fleet.run(stores[0].issue(user, Purpose.RESET, wanted, at=at))
        tries = [stores[n % 2].attempt(user, Purpose.RESET, wanted, at=at) for n in range(6)]
        assert Counter(fleet.at_once(*tries)) == {Outcome.MATCHED: 1, Outcome.ABSENT: 5}


def test_a_throttle_lets_through_as_many_as_it_says_over_two_processes(fleet: Fleet) -> None:
    stores = [SqlCodes(one.store, one.engine.readers) for one in fleet.treasuries]
    subject, at = uuid.uuid4().hex, fleet.first.clock()
    takes = [stores[n % 2].take("login", subject, most=5, window_s=60, at=at) for n in range(60)]
    assert fleet.at_once(*takes).count(None) == 5


def test_one_code_of_another_process_is_checked_here(fleet: Fleet) -> None:
    one, other = (treasury.identity.accounts for treasury in fleet.treasuries)
    issued = fleet.run(one.register("far@example.com", PASSWORD, "far"))
    signed = fleet.run(other.verify_email("far@example.com", issued.code))
    assert fleet.send(0, "GET", "/v1/events", signed.token).status_code == 200


def test_one_address_makes_one_account(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        email = f"same-{number}@example.com"
        tries = [
            one.identity.accounts.register(email, PASSWORD, f"same {number}") for one in fleet.treasuries
        ]
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "Conflict": 1}
        assert fleet.database.rows("SELECT count(*) FROM user_account WHERE email = ?", email) == [(1,)]
        count = "SELECT count(*) FROM organisation WHERE name LIKE ?"
        assert fleet.database.rows(count, f"same {number}%") == [(1,)]


def test_organisations_of_one_name_made_at_once_are_one_or_numbered(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        name = f"twin {number}"
        tries = [fleet.treasuries[n % 2].create_organisation(name, "UTC") for n in range(4)]
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "Conflict": 3}
        sign_ups = [
            one.identity.accounts.register(f"twin-{place}-{number}@example.com", PASSWORD, name)
            for place, one in enumerate(fleet.treasuries)
        ]
        assert outcomes(fleet.at_once(*sign_ups)) == {"fine": 2}
        found = fleet.database.rows(
            "SELECT name FROM organisation WHERE name LIKE ? ORDER BY name", f"{name}%"
        )
        assert [one for (one,) in found] == [name, f"{name} (2)", f"{name} (3)"]


def test_two_organisations_do_not_take_one_name_at_once(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        orgs = [fleet.organisation(f"left {number}"), fleet.organisation(f"right {number}")]
        name, at = f"middle {number}", fleet.first.clock()
        tries = [
            one.organisations.change(org, {"name": name}, at=at, actor="t")
            for one, org in zip(fleet.treasuries, orgs, strict=True)
        ]
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "Conflict": 1}


def test_keys_made_at_once_have_numbers_of_their_own(fleet: Fleet) -> None:
    org = fleet.organisation("numbers")
    raws = [keys.generate("local") for _ in range(20)]
    tries = [
        fleet.treasuries[n % 2].keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t")
        for n, raw in enumerate(raws)
    ]
    made: list[Any] = fleet.at_once(*tries)
    assert sorted(one.number for one in made) == list(range(1, 21))
    audited = fleet.database.rows("SELECT seq FROM audit WHERE org = ? ORDER BY seq", org)
    assert [seq for (seq,) in audited] == list(range(1, 22)), "one entry each, and the organisation's"


@pytest.mark.parametrize("overlap", [0, 3_600_000_000])
def test_one_of_two_rotations_ends_a_key(fleet: Fleet, overlap: int) -> None:
    org = fleet.organisation(f"rotated {overlap}")
    for _ in range(ROUNDS):
        raw = keys.generate("local")
        old = fleet.run(fleet.first.keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t"))
        tries = []
        for one in fleet.treasuries:
            fresh = keys.generate("local")
            successor, hashed = fleet.key_of(fresh, org), keys.hash_of(fresh)
            tries.append(one.keys.rotate(org, old.id, successor, hashed, actor="t", overlap_micros=overlap))
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "NotFound": 1}
    active = sum(one.is_active for one in fleet.run(fleet.second.keys.list(org)))
    assert active == ROUNDS * (2 if overlap else 1)


def test_a_rotation_and_a_revocation_at_once_leave_no_key_that_nobody_meant(fleet: Fleet) -> None:
    org = fleet.organisation("either")
    for _ in range(ROUNDS):
        raw, fresh = keys.generate("local"), keys.generate("local")
        old = fleet.run(fleet.first.keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t"))
        at = fleet.first.clock()
        rotated, _ = fleet.at_once(
            fleet.first.keys.rotate(org, old.id, fleet.key_of(fresh, org), keys.hash_of(fresh), actor="t"),
            fleet.second.keys.revoke(org, old.id, at=at, actor="t"),
        )
        known = fleet.run(fleet.second.keys.find(keys.hash_of(fresh)))
        assert (known is None) == isinstance(rotated, NotFound)
        assert not fleet.run(fleet.second.keys.find(keys.hash_of(raw))).is_active  # type: ignore[union-attr]


def test_uses_counted_in_two_processes_are_all_counted(fleet: Fleet) -> None:
    org = fleet.organisation("counted")
    raw = keys.generate("local")
    key = fleet.run(fleet.first.keys.create(fleet.key_of(raw, org), keys.hash_of(raw), actor="t"))
    place = (org, key.number)
    flushes = [fleet.treasuries[n % 2].keys.record_use({place: n}, {place: (3, n)}) for n in range(1, 21)]
    assert outcomes(fleet.at_once(*flushes)) == {"fine": 20}
    (found,) = fleet.run(fleet.second.keys.list(org))
    assert (found.last_used_at, found.auth_failures_count) == (20, 60)


def test_one_owner_is_left_when_two_processes_take_out_one_each(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        org = fleet.organisation(f"two owners {number}")
        pair = [member(fleet, org), member(fleet, org)]
        tries = [
            one.identity.people.remove(org, user, by=OPERATOR)
            for one, user in zip(fleet.treasuries, pair, strict=True)
        ]
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "Conflict": 1}
        assert len(owners(fleet, org)) == 1


def test_one_owner_is_left_however_the_two_go(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        org = fleet.organisation(f"however {number}")
        one, two = member(fleet, org), member(fleet, org)
        people = [treasury.identity.people for treasury in fleet.treasuries]
        tries = [
            people[0].set_disabled(org, one, is_disabled=True, by=OPERATOR),
            people[1].set_role(org, two, Role.VIEWER, by=OPERATOR),
            people[1].remove(org, two, by=OPERATOR),
        ]
        fleet.at_once(*tries)
        assert owners(fleet, org) in ([one], [two])


def test_an_invitation_of_two_processes_makes_one_user(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        email = f"guest-{number}@example.com"
        invited = fleet.run(fleet.first.identity.people.invite(fleet.org, email, Role.MEMBER, by=OPERATOR))
        tries = [one.identity.people.accept(invited.code, PASSWORD) for one in fleet.treasuries]
        assert outcomes(fleet.at_once(*tries)) == {"fine": 1, "NotFound": 1}
        assert fleet.database.rows("SELECT count(*) FROM user_account WHERE email = ?", email) == [(1,)]


def test_an_invitation_is_either_accepted_or_revoked(fleet: Fleet) -> None:
    one, two = (treasury.identity.people for treasury in fleet.treasuries)
    for number in range(ROUNDS * 2):
        email = f"either-{number}@example.com"
        invited = fleet.run(one.invite(fleet.org, email, Role.MEMBER, by=OPERATOR))
        invitation = invited.invitation.id
        accepted, revoked = fleet.at_once(
            one.accept(invited.code, PASSWORD), two.revoke_invitation(fleet.org, invitation, by=OPERATOR)
        )
        assert revoked is None
        row = "SELECT accepted_at IS NULL, revoked_at IS NULL FROM invitation WHERE id = ?"
        is_joined = not isinstance(accepted, NotFound)
        assert fleet.database.rows(row, invitation) == [(not is_joined, is_joined)]
        count = (
            "SELECT count(*) FROM membership AS m JOIN user_account AS u ON u.id = m.user WHERE u.email = ?"
        )
        assert fleet.database.rows(count, email) == [(int(is_joined),)]


def test_the_first_link_makes_one_owner(fleet: Fleet) -> None:
    for number in range(ROUNDS):
        org = fleet.organisation(f"first link {number}")
        code = fleet.run(fleet.first.doors.first_run.offer(org))
        assert code is not None
        tries = [
            one.doors.first_run.claim(code, f"first-{number}-{place}@example.com", PASSWORD)
            for place, one in enumerate(fleet.treasuries)
        ]
        heard = outcomes(fleet.at_once(*tries))
        assert heard == {"fine": 1, "NotFound": 1}
        assert len(owners(fleet, org)) == 1


def test_a_reset_token_changes_one_password(fleet: Fleet) -> None:
    one, two = (treasury.identity.accounts for treasury in fleet.treasuries)
    issued = fleet.run(one.register("reset@example.com", PASSWORD, "reset"))
    fleet.run(two.verify_email("reset@example.com", issued.code))
    for number in range(ROUNDS):
        code = fleet.run(one.new_code("reset@example.com", Purpose.RESET)).code
        token = fleet.run(two.reset_token("reset@example.com", code))
        words = [f"another long word {number}", f"some other phrase {number}"]
        tries = [
            accounts.reset_password(token, word) for accounts, word in zip((one, two), words, strict=True)
        ]
        results = fleet.at_once(*tries)
        assert outcomes(results)["fine"] == 1
        good = [place for place, result in enumerate(results) if isinstance(result, User)]
        for place, word in enumerate(words):
            (entered,) = fleet.at_once(one.log_in("reset@example.com", word))
            assert isinstance(entered, SignedIn if place in good else Unauthenticated)


def test_the_first_signatures_of_two_processes_are_taken_by_both(fleet: Fleet) -> None:
    user, org, session = new_id(), new_id(), new_id()
    tokens = [one.identity.tokens for one in fleet.treasuries]
    fleet.at_once(*(one.rotate() for one in tokens))
    texts: list[Any] = fleet.at_once(
        *(one.issue(one_kind, user, org=org, session=session) for one in tokens for one_kind in KINDS)
    )
    for one in tokens:
        for kind, text in zip(KINDS * 2, texts, strict=True):
            assert fleet.run(one.verify(text, kind)).user == user


def test_prices_put_at_once_are_all_there_and_one_of_each(fleet: Fleet) -> None:
    org = fleet.organisation("priced")
    stores = [SqlPrices(one.store, one.engine.readers, one.clock) for one in fleet.treasuries]
    tries = [stores[n % 2].put(org, absolute(f"model-{n // 2}", n), at=n, actor="t") for n in range(20)]
    assert outcomes(fleet.at_once(*tries)) == {"fine": 20}
    listed = fleet.run(stores[0].list(org))
    assert sorted(one.override.pattern for one in listed) == sorted(f"model-{n}" for n in range(10))


def test_what_two_processes_learn_of_outputs_adds_up(fleet: Fleet) -> None:
    stores = [SqlSketches(one.store, one.engine.readers) for one in fleet.treasuries]
    found = [SketchKey(fleet.org, f"agent-{n}", "gpt-4o") for n in range(150)]
    learned = OutputSketch()
    learned.add(100)
    tries = [stores[n % 2].add({key: Learned(learned, others=1) for key in found}) for n in range(6)]
    assert outcomes(fleet.at_once(*tries)) == {"fine": 6}
    for key in (found[0], found[-1]):
        sketch = fleet.run(stores[0].read(key))
        assert sketch is not None
        assert sketch.weight == 6


def test_a_new_name_of_two_processes_has_one_number(fleet: Fleet) -> None:
    events = [
        {"agent_name": f"agent {n}", "provider": "openai", "model": f"gpt-{n}", "input_tokens": 1,
         "output_tokens": 1, "cost": 0, "timestamp": "2026-03-01T14:00:00Z"}
        for n in range(5)
    ]  # fmt: skip
    sent = [fleet.ask(n % 2, "POST", "/v1/ingest", json={"events": events}) for n in range(6)]
    answers: list[Any] = fleet.at_once(*sent)
    assert [one.status_code for one in answers] == [202] * 6
    names = fleet.database.rows("SELECT name, count(*) FROM agent WHERE org = ? GROUP BY name", fleet.org)
    assert {name: count for name, count in names if name.startswith("agent ")} == {
        f"agent {n}": 1 for n in range(5)
    }


def test_an_organisation_is_what_the_last_of_two_changes_made_it(fleet: Fleet) -> None:
    org = fleet.organisation("settled")
    changes = [{"plan": "one"}, {"zone": "Europe/Berlin"}]
    tries = [
        one.organisations.change(org, change, at=1, actor="t")
        for one, change in zip(fleet.treasuries, changes, strict=True)
    ]
    assert outcomes(fleet.at_once(*tries)) == {"fine": 2}
    found: Organisation = fleet.run(fleet.first.organisations.get(org))
    assert (found.plan, found.zone) == ("one", "Europe/Berlin"), "neither undoes the other"
    with pytest.raises(Conflict):
        fleet.run(fleet.second.organisations.change(org, {"name": "priced"}, at=2, actor="t"))
    assert text_from_id("org", found.id).startswith("org_")
