"""Sign-in against a real issuer process: the way in, and every lie that an issuer or a stranger may tell."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from support.desk import NOW, Desk, open_desk
from support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, running_issuer

ALICE = {"sub": "1", "email": "Alice@Example.com", "email_verified": True, "iat": NOW // 1_000_000}
ALICE["exp"] = NOW // 1_000_000 + 300


class Scene(NamedTuple):
    desk: Desk
    issuer: Issuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
def scene(issuer: Issuer, tmp_path: Path) -> Iterator[Scene]:
    issuer.says(**ALICE)
    with open_desk(tmp_path / "data", **configured(issuer), oidc_domains="example.com, example.org") as desk:
        yield Scene(desk, issuer)


def configured(issuer: Issuer) -> dict[str, object]:
    return {
        "public_url": "http://bursar",
        "oidc_issuer": issuer.url,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
    }


def start(scene: Scene, **params: str) -> str:
    answer = scene.desk.get("/v1/auth/oidc/start", key="", **params)
    assert answer.status_code == 302, answer.text
    assert "httponly" in answer.headers["set-cookie"].lower()
    return str(answer.headers["location"])


def callback(scene: Scene, **params: str) -> httpx2.Response:
    return scene.desk.get("/v1/auth/oidc/callback", key="", **params)


def signed_in(scene: Scene, **start_params: str) -> httpx2.Response:
    return callback(scene, **scene.issuer.sign_in(start(scene, **start_params)))


@pytest.fixture(scope="module")
def untouched(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene for attempts that all fail: nobody has ever signed in there."""
    folder = tmp_path_factory.mktemp("untouched") / "data"
    with open_desk(folder, **configured(issuer), oidc_domains="example.com") as desk:
        yield Scene(desk, issuer)


def people(desk: Desk) -> int:
    return int(str(desk.one("SELECT count(*) FROM user_account")[0]))


def test_a_person_of_an_open_domain_becomes_a_member_and_stays_the_same_person(scene: Scene) -> None:
    first = signed_in(scene)
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "no-store"
    me = scene.desk.get("/v1/auth/me", key=first.json()["access_token"]).json()
    assert (me["email"], me["role"], me["org_name"]) == ("alice@example.com", "member", "first")
    assert me["has_password"] is False
    scene.issuer.says(**ALICE | {"email": "renamed@elsewhere.example"})
    again = signed_in(scene)
    assert again.json()["user"]["id"] == me["id"]
    assert people(scene.desk) == 1


def test_the_token_may_come_in_the_fragment_of_a_path_of_ours(scene: Scene) -> None:
    answer = signed_in(scene, return_to="/app?tab=1")
    assert answer.status_code == 303
    parts = urlsplit(answer.headers["location"])
    assert (parts.scheme, parts.netloc, parts.path, parts.query) == ("", "", "/app", "tab=1")
    token = parse_qs(parts.fragment)["access_token"][0]
    assert scene.desk.get("/v1/auth/me", key=token).status_code == 200


@pytest.mark.parametrize(
    "path", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a#b"]
)
def test_nobody_is_sent_to_another_server(scene: Scene, path: str) -> None:
    answer = scene.desk.get("/v1/auth/oidc/start", key="", return_to=path)
    assert (answer.status_code, answer.json()["field"]) == (422, "return_to")


def lie(**claims: object) -> dict[str, object]:
    return ALICE | claims


@pytest.mark.parametrize(
    "claims",
    [
        lie(nonce="another"),
        lie(nonce=None),
        lie(aud="another-client"),
        lie(aud=["another-client"]),
        lie(aud=[CLIENT_ID, "another-client"], azp="another-client"),
        lie(aud=None),
        lie(iss="https://other.example"),
        lie(iss=None),
        lie(exp=NOW // 1_000_000 - 61),
        lie(exp=None),
        lie(sub=None),
        lie(nbf=NOW // 1_000_000 + 300),
        lie(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
        lie(alg="none"),
        lie(alg="HS256"),
        lie(alg="other-key"),
    ],
    ids=lambda claims: str({name: claims[name] for name in claims if ALICE.get(name) != claims[name]}),
)
def test_a_token_that_does_not_hold_opens_nothing(untouched: Scene, claims: dict[str, object]) -> None:
    untouched.issuer.says(**claims)
    answer = signed_in(untouched)
    assert answer.status_code == 401, answer.text
    assert "Unauthorized" in answer.json()["detail"]
    assert people(untouched.desk) == 0


def test_an_address_that_the_issuer_does_not_vouch_for_opens_nothing(untouched: Scene) -> None:
    for verified in (False, None, "false", 1, "yes"):
        untouched.issuer.says(**ALICE | {"email_verified": verified, "userinfo": {"sub": "1"}})
        assert signed_in(untouched).status_code == 403
    assert people(untouched.desk) == 0


def test_only_the_browser_that_began_may_finish(scene: Scene) -> None:
    answered = scene.issuer.sign_in(start(scene))
    wrong = callback(scene, **answered | {"state": "another"})
    assert wrong.status_code == 401
    cookie = scene.desk.client.cookies["bursar_sign_in"]
    for text in ("", "x", cookie[:-4], "0" * 64 + cookie[64:], cookie + "A" * 4_000):
        scene.desk.client.cookies.clear()
        headers = {"Cookie": f"bursar_sign_in={text}"} if text else {}
        answer = scene.desk.send("GET", "/v1/auth/oidc/callback", key="", headers=headers, params=answered)
        assert answer.status_code == 401, text
    headers = {"Cookie": f"bursar_sign_in={cookie}"}
    good = scene.desk.send("GET", "/v1/auth/oidc/callback", key="", headers=headers, params=answered)
    assert good.status_code == 200, good.text
    twice = scene.desk.send("GET", "/v1/auth/oidc/callback", key="", headers=headers, params=answered)
    assert twice.status_code == 401


def test_an_attempt_is_over_after_ten_minutes(scene: Scene) -> None:
    answered = scene.issuer.sign_in(start(scene))
    scene.desk.now += 601_000_000
    assert callback(scene, **answered).status_code == 401


def test_an_answer_that_names_another_issuer_is_refused(scene: Scene) -> None:
    answered = scene.issuer.sign_in(start(scene))
    assert callback(scene, **answered, iss="https://other.example").status_code == 401
    assert callback(scene, **answered, iss=scene.issuer.url).status_code == 200


def test_a_refusal_at_the_issuer_is_one_here(scene: Scene) -> None:
    url = start(scene)
    state = parse_qs(urlsplit(url).query)["state"][0]
    assert callback(scene, state=state, error="access_denied").status_code == 401


def test_the_request_carries_pkce_state_and_nonce(scene: Scene) -> None:
    query = parse_qs(urlsplit(start(scene)).query)
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["code_challenge"][0]) == 43
    assert min(len(query[name][0]) for name in ("state", "nonce")) >= 32
    other = parse_qs(urlsplit(start(scene)).query)
    assert all(query[name] != other[name] for name in ("code_challenge", "state", "nonce"))


def test_a_stranger_of_another_domain_is_told_to_ask_for_an_invitation(scene: Scene) -> None:
    scene.issuer.says(**ALICE | {"email": "eve@sub.example.com"})
    answer = signed_in(scene)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_admitted")
    assert people(scene.desk) == 0


def test_an_invitation_opens_the_organisation_in_its_role(scene: Scene) -> None:
    desk = scene.desk
    org = desk.get("/v1/organisations", key=desk.treasury.operator_token).json()["data"][0]["id"]
    body = {"email": "eve@elsewhere.example", "role": "finance"}
    assert desk.post(f"/v1/organisations/{org}/invitations", body).status_code == 201
    scene.issuer.says(**ALICE | {"sub": "eve", "email": "eve@elsewhere.example"})
    answer = signed_in(scene)
    assert answer.json()["user"]["role"] == "finance"


def test_a_known_user_is_linked_and_a_squatters_password_loses_its_power(scene: Scene) -> None:
    desk = scene.desk
    squatter = {"email": "alice@example.com", "password": "squatters own", "org_name": "trap"}
    assert desk.post("/v1/auth/register", squatter, key="").status_code == 201
    answer = signed_in(scene)
    assert answer.status_code == 200
    assert people(desk) == 1
    log_in = {name: squatter[name] for name in ("email", "password")}
    assert desk.post("/v1/auth/login", log_in, key="").status_code == 401


def test_the_address_may_come_from_the_userinfo_endpoint_for_the_same_person_only(scene: Scene) -> None:
    info = {"sub": "1", "email": "alice@example.com", "email_verified": True, "given_name": "Alice"}
    scene.issuer.says(**ALICE | {"email": None, "email_verified": None, "userinfo": info | {"sub": "2"}})
    assert signed_in(scene).status_code == 401
    scene.issuer.says(**ALICE | {"email": None, "email_verified": None, "userinfo": info})
    assert signed_in(scene).json()["user"]["first_name"] == "Alice"


def test_what_an_issuer_vouches_for_at_the_userinfo_endpoint_counts_for_that_address(scene: Scene) -> None:
    info = {"sub": "1", "email": "bob@example.com", "email_verified": True}
    scene.issuer.says(**ALICE | {"email_verified": None, "userinfo": info})
    assert signed_in(scene).json()["user"]["email"] == "bob@example.com"
    info = {"sub": "3", "email_verified": True}
    scene.issuer.says(**ALICE | {"sub": "3", "email": None, "email_verified": None, "userinfo": info})
    assert signed_in(scene).status_code == 403


def test_an_issuer_under_another_name_or_without_tls_is_not_spoken_to(issuer: Issuer, tmp_path: Path) -> None:
    for number, change in enumerate(
        ({"issuer": "https://other.example"}, {"token_endpoint": "http://other.example/token"})
    ):
        issuer.says(discovery=change)
        with open_desk(tmp_path / str(number), **configured(issuer)) as desk:
            assert desk.get("/v1/auth/oidc/start", key="").status_code == 503


def test_without_an_issuer_there_is_no_such_door(tmp_path: Path) -> None:
    with open_desk(tmp_path / "data") as desk:
        assert desk.get("/v1/auth/oidc/start", key="").status_code == 404
        assert desk.get("/v1/auth/oidc/callback", key="").status_code == 404
        assert desk.get("/v1/auth/methods", key="").json()["oidc"] is None


def test_a_new_key_of_the_issuer_is_found_when_it_signs_with_it(scene: Scene) -> None:
    assert signed_in(scene).status_code == 200
    scene.issuer.rotate()
    assert signed_in(scene).status_code == 200
