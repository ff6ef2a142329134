"""The routes of accounts as people and programs use them, mails read as they were printed or delivered."""

import re
import time
from collections.abc import Iterator

import httpx2
import pytest

from support.desk import Desk, event, open_desk
from support.engines import Database, kept_bytes
from support.server import Server, running_server

PASSWORD = "correct horse battery"
CODE = re.compile(r"^ +(\d{6})$", re.MULTILINE)
INVITATION = re.compile(r"inv_[\w-]{43}")


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with open_desk(database) as opened:
        yield opened


def mails(desk: Desk) -> list[str]:
    """Everything printed since the last look."""
    desk.run(desk.treasury.doors.mails.drain())
    printed = list(desk.printed)
    desk.printed.clear()
    return printed


def code_for(desk: Desk, email: str) -> str:
    (mail,) = mails(desk)
    assert f"To: {email}\n" in mail
    found = CODE.search(mail)
    assert found is not None
    assert found[1] not in mail.split("\n\n")[0]  # neither in a header
    return found[1]


def ask(desk: Desk, route: str, key: str = "", /, **body: object) -> httpx2.Response:
    return desk.post(f"/v1/auth/{route}", body, key=key)


def register(desk: Desk, email: str = "alice@example.com", org_name: str = "acme") -> httpx2.Response:
    return ask(desk, "register", email=email, password=PASSWORD, org_name=org_name, first_name="Alice")


def signed_up(desk: Desk, email: str = "alice@example.com", org_name: str = "acme") -> str:
    """Sign up and prove the address; return the token."""
    assert register(desk, email, org_name).status_code == 201
    answer = ask(desk, "verify-email", email=email, code=code_for(desk, email))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_the_way_of_a_new_user_to_the_first_recorded_event(desk: Desk) -> None:
    answer = register(desk, "Alice@Example.com")
    assert (answer.status_code, answer.json()) == (
        201,
        {"message": "Verification code sent", "email": "alice@example.com", "requires_verification": True},
    )
    code = code_for(desk, "alice@example.com")
    unverified = ask(desk, "login", email="alice@example.com", password=PASSWORD)
    assert (unverified.status_code, unverified.json()["code"]) == (403, "email_unverified")
    verified = ask(desk, "verify-email", email="ALICE@example.com", code=code)
    assert verified.status_code == 200
    logged_in = ask(desk, "login", email="alice@example.com", password=PASSWORD)
    body = logged_in.json()
    assert (body["token_type"], body["expires_in"]) == ("bearer", 86400)
    assert body["accessToken"] == body["access_token"] == body["refreshToken"]
    assert logged_in.headers["cache-control"] == "no-store"
    me = desk.get("/v1/auth/me", key=body["access_token"]).json()
    assert (me["email"], me["first_name"], me["role"], me["org_name"]) == (
        "alice@example.com", "Alice", "owner", "acme",
    )  # fmt: skip
    key = desk.post("/v1/keys", {"name": "mine", "scopes": ["ingest"]}, key=body["access_token"]).json()
    assert desk.ingest(event(), key=key["raw_key"]).status_code == 202


def test_a_known_address_already_exists(desk: Desk) -> None:
    register(desk)
    again = register(desk)
    assert again.status_code == 409
    assert "already exists" in again.json()["detail"]
    assert len(mails(desk)) == 1


def test_codes_are_refused_as_the_reference_says(desk: Desk) -> None:
    register(desk)
    code = code_for(desk, "alice@example.com")
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    answer = ask(desk, "verify-email", email="alice@example.com", code=wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")
    assert ask(desk, "verify-email", email="nobody@example.com", code=code).status_code == 404
    desk.now += 601_000_000
    assert ask(desk, "verify-email", email="alice@example.com", code=code).status_code == 400
    for _ in range(40):
        last = ask(desk, "verify-email", email="nobody@example.com", code=code)
    assert last.status_code == 429
    assert last.json()["retry_after_s"] > 0


def test_a_fresh_code_ends_the_one_before(desk: Desk) -> None:
    register(desk)
    old = code_for(desk, "alice@example.com")
    sent = ask(desk, "resend-otp", email="alice@example.com")
    new = code_for(desk, "alice@example.com")
    if old != new:
        assert ask(desk, "verify-email", email="alice@example.com", code=old).status_code == 400
    assert ask(desk, "verify-email", email="alice@example.com", code=new).status_code == 200
    for email in ("alice@example.com", "nobody@example.com"):
        moot = ask(desk, "resend-otp", email=email)
        assert (moot.status_code, moot.json()) == (sent.status_code, sent.json())
    assert mails(desk) == []
    statuses = {ask(desk, "resend-otp", email="nobody@example.com").status_code for _ in range(6)}
    assert statuses == {200, 429}


def test_a_forgotten_password(desk: Desk) -> None:
    token = signed_up(desk)
    known = ask(desk, "forgot-password", email="alice@example.com")
    unknown = ask(desk, "forgot-password", email="nobody@example.com")
    assert (
        (known.status_code, known.content) == (unknown.status_code, unknown.content) == (200, known.content)
    )
    code = code_for(desk, "alice@example.com")
    assert ask(desk, "verify-reset-code", email="alice@example.com", code="x").status_code == 400
    assert ask(desk, "verify-reset-code", email="nobody@example.com", code=code).status_code == 400
    reset = ask(desk, "verify-reset-code", email="alice@example.com", code=code).json()
    assert reset["expires_in"] == 300
    assert desk.get("/v1/auth/me", key=reset["reset_token"]).status_code == 401
    weak = ask(desk, "reset-password", reset_token=reset["reset_token"], new_password="password")
    assert (weak.status_code, weak.json()["field"]) == (422, "new_password")
    good = ask(desk, "reset-password", token=reset["reset_token"], password="another horse")
    assert good.status_code == 200
    assert "was changed" in mails(desk)[0]
    assert desk.get("/v1/auth/me", key=token).status_code == 401
    assert ask(desk, "reset-password", token=reset["reset_token"], password="third horse").status_code == 401
    assert ask(desk, "login", email="alice@example.com", password="another horse").status_code == 200
    for _ in range(8):
        assert ask(desk, "forgot-password", email="alice@example.com").status_code == 200
    assert len(mails(desk)) == 4  # five codes an hour


def test_the_time_of_an_answer_does_not_tell_who_is_known(desk: Desk) -> None:
    signed_up(desk)
    # Other tests share the machine; what told the two apart would do so every time.
    assert any(difference(desk) < 0.002 for _ in range(6))


def difference(desk: Desk) -> float:
    """Seconds between the quickest answers to both, interleaved, each in an hour without a limit to meet."""
    took: dict[str, list[float]] = {"alice@example.com": [], "nobody@example.com": []}
    for turn in range(40):
        email = sorted(took)[turn % 2]
        desk.now += 3_600_000_000
        begun = time.perf_counter()
        assert ask(desk, "forgot-password", email=email).status_code == 200
        took[email].append(time.perf_counter() - begun)
        mails(desk)  # here the loop stands still between requests: the mail would run within the next one
    known, unknown = (min(times) for times in took.values())
    return abs(known - unknown)


def test_a_session_is_refreshed_switched_and_ended(desk: Desk) -> None:
    token = signed_up(desk)
    desk.now += 86_400_000_000 + 1
    assert desk.get("/v1/auth/me", key=token).status_code == 401
    by_header = ask(desk, "refresh", token)
    by_body = ask(desk, "refresh", refreshToken=token)
    assert (by_header.status_code, by_body.status_code) == (200, 200)
    fresh = by_body.json()["access_token"]
    assert ask(desk, "refresh").status_code == 401
    assert ask(desk, "refresh", "garbage").status_code == 401
    assert ask(desk, "switch", fresh, organisation="elsewhere").status_code == 404
    assert ask(desk, "logout", fresh).status_code == 200
    assert desk.get("/v1/auth/me", key=by_header.json()["access_token"]).status_code == 401
    assert ask(desk, "refresh", fresh).status_code == 401


def test_a_changed_password_ends_every_session_but_the_new_one(desk: Desk) -> None:
    token = signed_up(desk)
    other = ask(desk, "login", email="alice@example.com", password=PASSWORD).json()["access_token"]
    wrong = ask(desk, "change-password", token, current_password="no", new_password="another horse")
    assert (wrong.status_code, wrong.json()["field"]) == (403, "current_password")
    changed = ask(desk, "change-password", token, current_password=PASSWORD, new_password="another horse")
    assert changed.status_code == 200
    assert [desk.get("/v1/auth/me", key=old).status_code for old in (token, other)] == [401, 401]
    assert desk.get("/v1/auth/me", key=changed.json()["access_token"]).status_code == 200
    assert ask(desk, "login", email="alice@example.com", password=PASSWORD).status_code == 401


def test_who_is_unknown_hears_what_a_wrong_password_hears(desk: Desk) -> None:
    signed_up(desk)
    known = ask(desk, "login", email="alice@example.com", password="wrong password")
    unknown = ask(desk, "login", email="nobody@example.com", password="wrong password")
    malformed = ask(desk, "login", email="no address", password="wrong password")
    assert known.status_code == 401
    assert "Unauthorized" in known.json()["detail"]
    assert known.content == unknown.content == malformed.content


def test_who_sends_nothing_is_told_of_access_tokens_too(desk: Desk) -> None:
    nobody = desk.get("/v1/auth/me", key="")
    assert nobody.status_code == 401
    assert "an access token" in nobody.json()["detail"]


def test_keys_and_the_operator_have_no_profile(desk: Desk) -> None:
    for key in (desk.key, desk.treasury.operator_token):
        assert desk.get("/v1/auth/me", key=key).status_code == 403
        assert ask(desk, "logout", key).status_code == 403


def test_no_field_makes_somebody_more_than_asked(desk: Desk) -> None:
    extra = {"role": "owner", "org_id": "org_" + "0" * 32, "verified_at": 1, "is_verified": True}
    answer = ask(desk, "register", email="eve@example.com", password=PASSWORD, org_name="first", **extra)
    assert answer.status_code == 201
    assert ask(desk, "login", email="eve@example.com", password=PASSWORD).status_code == 403
    assert desk.rows("SELECT name FROM organisation ORDER BY org") == [("first",), ("first (2)",)]


def test_a_strict_server_answers_every_sign_up_alike(database: Database) -> None:
    with open_desk(database, strict_sign_up=True) as desk:
        signed_up(desk)
        begun = time.monotonic()
        known, fresh = register(desk), register(desk, "bob@example.com")
        assert time.monotonic() - begun >= 0.9
        assert known.status_code == fresh.status_code == 201
        assert known.text.replace("alice", "bob") == fresh.text
        told = mails(desk)
        assert [("has an account" in text, bool(CODE.search(text))) for text in told] == [
            (True, False),
            (False, True),
        ]
        assert ask(desk, "verify-email", email="nobody@example.com", code="000000").status_code == 400
        assert len(desk.rows("SELECT * FROM user_account")) == 2


def invited(desk: Desk, token: str, email: str, role: str = "member") -> httpx2.Response:
    org = desk.get("/v1/auth/me", key=token).json()["org_id"]
    return desk.post(f"/v1/organisations/{org}/invitations", {"email": email, "role": role}, key=token)


def invitation_code(desk: Desk) -> str:
    (mail,) = mails(desk)
    found = INVITATION.search(mail)
    assert found is not None
    return found[0]


def test_an_invitation_is_accepted_by_a_new_user_once(desk: Desk) -> None:
    token = signed_up(desk)
    answer = invited(desk, token, "bob@example.com", "finance")
    assert answer.status_code == 201
    assert "inv_" not in answer.text.replace(answer.json()["id"], "")  # who has the code proves the address
    code = invitation_code(desk)
    weak = ask(desk, "accept-invitation", code=code)
    assert (weak.status_code, weak.json()["field"]) == (422, "password")
    joined = ask(desk, "accept-invitation", code=code, password=PASSWORD, first_name="Bob")
    assert joined.status_code == 200, joined.text
    user = joined.json()["user"]
    assert (user["email"], user["role"], user["org_name"]) == ("bob@example.com", "finance", "acme")
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 404
    assert ask(desk, "login", email="bob@example.com", password=PASSWORD).status_code == 200


def test_a_known_user_joins_by_its_own_password_or_token_and_may_switch(desk: Desk) -> None:
    owner, bob = signed_up(desk), signed_up(desk, "bob@example.com", "bobs")
    for number in range(2):
        invited(desk, owner, "bob@example.com", "viewer")
        code = invitation_code(desk)
        assert ask(desk, "accept-invitation", code=code, password="not his own").status_code == 401
        assert ask(desk, "accept-invitation", owner, code=code).status_code == 401
        joined = (
            ask(desk, "accept-invitation", code=code, password=PASSWORD)
            if number
            else ask(desk, "accept-invitation", bob, code=code)
        )
        assert joined.json()["user"]["org_name"] == "acme", joined.text
    back = ask(desk, "switch", joined.json()["access_token"], organisation="bobs").json()
    assert (back["user"]["org_name"], back["user"]["role"]) == ("bobs", "owner")
    there = ask(desk, "switch", back["access_token"], org=joined.json()["user"]["org_id"]).json()
    assert there["user"]["role"] == "viewer"
    me = desk.get("/v1/auth/me", key=there["access_token"]).json()
    assert {one["name"]: one["role"] for one in me["organisations"]} == {"bobs": "owner", "acme": "viewer"}


def test_an_invitation_is_no_place_to_guess_passwords(desk: Desk) -> None:
    owner = signed_up(desk)
    signed_up(desk, "bob@example.com", "bobs")
    invited(desk, owner, "bob@example.com")
    code = invitation_code(desk)
    statuses = [
        ask(desk, "accept-invitation", code=code, password=f"guess {n}").status_code for n in range(22)
    ]
    assert (statuses[0], statuses[-1]) == (401, 429)
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 429


def test_a_squatter_of_an_invited_address_gains_nothing(desk: Desk) -> None:
    owner = signed_up(desk)
    ask(desk, "register", email="bob@example.com", password="squatters own", org_name="trap")
    mails(desk)
    invited(desk, owner, "bob@example.com")
    code = invitation_code(desk)
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 200
    assert ask(desk, "login", email="bob@example.com", password="squatters own").status_code == 401
    assert ask(desk, "login", email="bob@example.com", password=PASSWORD).status_code == 200


def test_a_revoked_or_old_invitation_is_over(desk: Desk) -> None:
    owner = signed_up(desk)
    first = invited(desk, owner, "bob@example.com").json()
    code = invitation_code(desk)
    org = desk.get("/v1/auth/me", key=owner).json()["org_id"]
    path = f"/v1/organisations/{org}/invitations"
    assert desk.send("DELETE", f"{path}/{first['id']}", key=owner).status_code == 204
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 404
    invited(desk, owner, "bob@example.com")
    code = invitation_code(desk)
    desk.now += 7 * 86_400_000_000
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 404
    assert desk.rows("SELECT email FROM user_account") == [("alice@example.com",)]


def first_link(desk: Desk) -> str:
    code = desk.run(desk.treasury.doors.first_run.offer(desk.org))
    assert code is not None
    return code


def claim(desk: Desk, code: str, email: str = "alice@example.com") -> httpx2.Response:
    body = {"email": email, "password": PASSWORD}
    return desk.send("POST", "/v1/auth/first-run", key="", params={"token": code}, json=body)


def test_the_first_link_makes_one_owner_once(desk: Desk) -> None:
    superseded, code = first_link(desk), first_link(desk)
    assert code.encode() not in kept_bytes(desk.database)
    for _ in range(2):  # looking uses nothing up
        assert desk.get("/v1/auth/first-run", key="", token=code).json()["organisation"] == "first"
    page = desk.send(
        "GET", "/v1/auth/first-run", key="", params={"token": code}, headers={"Accept": "text/html"}
    )
    assert page.headers["content-type"].startswith("text/html")
    assert code not in page.text
    assert claim(desk, superseded).status_code == 404
    assert ask(desk, "accept-invitation", code=code, password=PASSWORD).status_code == 404
    owner = claim(desk, code)
    assert (owner.json()["user"]["role"], owner.json()["user"]["org_name"]) == ("owner", "first")
    assert claim(desk, code, "eve@example.com").status_code == 404
    assert desk.run(desk.treasury.doors.first_run.offer(desk.org)) is None
    assert len(desk.rows("SELECT * FROM membership")) == 1
    assert (
        desk.get(f"/v1/organisations/{owner.json()['user']['org_id']}/invitations").json()["data"][0]["email"]
        == "alice@example.com"
    )


def test_the_first_link_is_over_after_a_day_and_with_any_owner(desk: Desk) -> None:
    code = first_link(desk)
    desk.now += 86_400_000_000
    assert claim(desk, code).status_code == 404
    code = first_link(desk)
    org = desk.get("/v1/organisations", key=desk.treasury.operator_token).json()["data"][0]["id"]
    body = {"email": "bob@example.com", "password": PASSWORD, "role": "owner"}
    operator = desk.treasury.operator_token
    assert desk.post(f"/v1/organisations/{org}/members", body, key=operator).status_code == 201
    assert claim(desk, code).status_code == 404


def test_the_first_link_takes_a_known_address_only_with_its_password(desk: Desk) -> None:
    signed_up(desk, "bob@example.com", "bobs")
    code = first_link(desk)
    body = {"email": "bob@example.com", "password": "not his own"}
    refused = desk.send("POST", "/v1/auth/first-run", key="", params={"token": code}, json=body)
    assert refused.status_code == 401
    assert claim(desk, code, "bob@example.com").status_code == 200
    assert len(desk.rows("SELECT * FROM user_account")) == 1


def test_a_server_prints_the_link_and_the_code_that_let_a_person_in(database: Database) -> None:
    with running_server(database) as server:
        (link,) = re.findall(r"\S+/v1/auth/first-run\?token=\S+", server.greeting)
        owner = httpx2.post(link, json={"email": "olga@example.com", "password": PASSWORD}, trust_env=False)
        assert owner.json()["user"]["org_name"] == "default"
        registration = {"email": "alice@example.com", "password": PASSWORD, "org_name": "acme"}
        assert server.post("/v1/auth/register", registration).status_code == 201
        code = _printed_code(server)
        verified = server.post("/v1/auth/verify-email", {"email": "alice@example.com", "code": code})
        assert verified.status_code == 200
        server.stop()
    with running_server(database) as server:
        assert len(server.greeting.splitlines()) == 1  # it has an owner now
        me = server.get("/v1/auth/me", key=verified.json()["access_token"])
        assert me.json()["email"] == "alice@example.com"


def _printed_code(server: Server) -> str:
    printed = ""
    for _ in range(200):
        printed += server.printed()
        found = CODE.search(printed)
        if found is not None and "end of mail" in printed:
            return found[1]
        time.sleep(0.02)
    raise AssertionError(printed)
