"""`/v1/reports/*`: series without holes, rankings, breakdowns, each with its total."""

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import uuid_utils

sys.path.append(str(Path(__file__).parent))

from reading_server import NOW, ReadingServer

from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.identity.keys import Scope
from support.engines import Database


def call(at: int, agent: str, nusd: int, project: str = "") -> UsageEvent:
    return UsageEvent(
        key=uuid_utils.uuid7().bytes,
        occurred_at=at,
        subject=Subject(agent, "openai", "gpt-4o", project),
        source=Source.NATIVE,
        input_tokens=10,
        reported_nusd=nusd,
    )


@pytest.fixture(scope="module")
def server(module_database: Database) -> Iterator[ReadingServer]:
    with ReadingServer(module_database) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(server: ReadingServer) -> str:
    org = server.organisation("acme")
    server.record(
        org,
        [
            call(NOW - 3 * MICROS_PER_DAY, "scout", 1_000_000_000, "web"),
            call(NOW - MICROS_PER_DAY, "scout", 500_000_000),
            call(NOW - MICROS_PER_DAY, "clerk", 2_500_000_001),
            call(NOW - MICROS_PER_HOUR, "idler", 7),
        ],
    )
    return server.key(org)


def test_a_series_has_every_day_whether_or_not_something_happened(server: ReadingServer, key: str) -> None:
    body = server.get("/v1/reports/series", key, **{"from": "2026-02-27", "to": "2026-03-02"}).json()
    assert [(point["period"], point["cost_usd"]) for point in body["data"]] == [
        ("2026-02-27", "1.00"),
        ("2026-02-28", "0.00"),
        ("2026-03-01", "3.000000008"),
        ("2026-03-02", "0.00"),
    ]
    assert (body["total"]["cost_usd"], body["has_more"], body["next_cursor"]) == ("4.000000008", False, None)


@pytest.mark.parametrize(
    ("granularity", "zone", "slices"),
    [
        ("hour", "Asia/Kolkata", ("2026-03-01T00:00:00+05:30", 24)),
        ("week", "UTC", ("2026-W09", 1)),
        ("month", "UTC", ("2026-03", 1)),
    ],
)
def test_slices_are_those_of_the_zone(
    server: ReadingServer, key: str, granularity: str, zone: str, slices: tuple[str, int]
) -> None:
    asked = {"from": "2026-03-01", "to": "2026-03-01", "granularity": granularity, "zone": zone}
    body = server.get("/v1/reports/series", key, **asked).json()
    assert (body["data"][0]["period"], len(body["data"])) == slices


def test_a_grouped_series_shows_few_lines_and_the_rest_and_adds_up(server: ReadingServer, key: str) -> None:
    body = server.get("/v1/reports/series", key, by="agent", limit=1, granularity="day").json()
    assert {point["agent"] for point in body["data"]} == {"clerk", "(rest)"}
    assert len(body["data"]) == 2 * 30
    assert sum(Decimal(point["cost_usd"]) for point in body["data"]) == Decimal(body["total"]["cost_usd"])


def test_too_many_points_are_refused_with_what_to_do(server: ReadingServer, key: str) -> None:
    answer = server.get("/v1/reports/series", key, granularity="hour", **{"from": "2020-01-01"})
    assert (answer.status_code, answer.json()["field"]) == (422, "from")


def test_a_ranking_is_walked_page_by_page(server: ReadingServer, key: str) -> None:
    first = server.get("/v1/reports/top", key, by="agent", limit=2).json()
    assert [row["agent"] for row in first["data"]] == ["clerk", "scout"]
    second = server.get("/v1/reports/top", key, by="agent", limit=2, cursor=first["next_cursor"]).json()
    assert ([row["agent"] for row in second["data"]], second["has_more"]) == (["idler"], False)
    assert first["total"] == second["total"]


def test_a_breakdown_names_what_is_not_given_as_null(server: ReadingServer, key: str) -> None:
    body = server.get("/v1/reports/breakdown", key, by="agent,project", agent="scout").json()
    assert [(row["agent"], row["project"], row["cost_usd"]) for row in body["data"]] == [
        ("scout", "web", "1.00"),
        ("scout", None, "0.50"),
    ]
    only = server.get("/v1/reports/breakdown", key, by="model", project="(none)").json()
    assert only["total"]["requests"] == 3


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("top", {"by": "agent,model"}, "by"),
        ("top", {"by": "day"}, "by"),
        ("top", {"cursor": "first"}, "cursor"),
        ("breakdown", {"by": ","}, "by"),
        ("series", {"granularity": "second"}, "granularity"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    server: ReadingServer, key: str, path: str, params: dict[str, str], field: str
) -> None:
    answer = server.get(f"/v1/reports/{path}", key, **params)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_key_bound_to_a_project_reads_that_project_only(server: ReadingServer) -> None:
    org = server.organisation("bound")
    server.record(org, [call(NOW, "scout", 1, "web"), call(NOW, "scout", 1, "shop")])
    bound = server.key(org, project="web")
    assert server.get("/v1/reports/top", bound).json()["total"]["requests"] == 1
    assert server.get("/v1/reports/top", bound, project="shop").status_code == 403


def test_reading_needs_the_scope(server: ReadingServer) -> None:
    writer = server.key(server.organisation("writer"), frozenset({Scope.INGEST}))
    for path in ("series", "top", "breakdown"):
        assert server.get(f"/v1/reports/{path}", writer).status_code == 403
