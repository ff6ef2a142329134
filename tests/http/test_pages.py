"""The front page and the list of routes: what they promise works, and they show nobody's figures."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from support.desk import Desk, open_desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("pages") / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def front(desk: Desk) -> str:
    answer = desk.get("/", key="")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return unescape(answer.text)


def test_its_links_open_without_a_key(desk: Desk, front: str) -> None:
    links = re.findall(r'href="([^"]+)"', front)
    assert len(links) >= 5
    assert {link: desk.get(link, key="").status_code for link in links} == dict.fromkeys(links, 200)


def test_its_requests_are_taken_as_they_stand(desk: Desk, front: str) -> None:
    bodies = re.findall(r"-d '\n(\{.*?\})'", front, re.DOTALL)
    assert len(bodies) == 3
    event, hold, settle = (re.sub(r"'\$\(date[^)]*\)'", "2026-11-25T00:00:00Z", body) for body in bodies)
    recorded = desk.send("POST", "/v1/ingest", content=event)
    assert (recorded.status_code, recorded.json()["accepted"]) == (202, 1)
    held = desk.send("POST", "/v1/holds", content=hold)
    assert (held.status_code, held.json()["state"]) == (201, "open")
    settled = desk.send("POST", f"/v1/holds/{held.json()['id']}/settle", content=settle)
    assert (settled.status_code, settled.json()["settled_usd"]) == (200, "0.008")


def test_the_routes_it_names_exist_and_ask_for_a_key(desk: Desk, front: str) -> None:
    named = sorted({path for path in re.findall(r"/v1/[a-z-]+(?=<)", front) if path != "/v1/holds"})
    assert named == ["/v1/budgets", "/v1/gates", "/v1/incidents"]
    assert {path: desk.get(path, key="").status_code for path in named} == dict.fromkeys(named, 401)


def test_a_lines_end_that_goes_on_is_shown(front: str) -> None:
    assert front.count(" \\\n  -H") == 3


def test_it_shows_no_name_of_an_organisations(desk: Desk) -> None:
    desk.post("/v1/holds", {"agent": "secret-agent", "model": "m", "amount_usd": "1", "idempotency_key": "s"})
    assert all("secret-agent" not in desk.get(page, key="").text for page in ("/", "/docs", "/openapi.json"))
