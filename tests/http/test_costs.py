"""`GET /v1/costs`, as AI Cost Guard's reference describes it, and what is ours beside it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uuid_utils

sys.path.append(str(Path(__file__).parent))

from reading_server import NOW, ReadingServer

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_DAY, MICROS_PER_HOUR
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.identity.keys import Scope
from support.engines import Database


def call(
    at: int, model: str = "gpt-4o", nusd: int | None = None, user: str = "", project: str = "proj_1"
) -> UsageEvent:
    return UsageEvent(
        key=uuid_utils.uuid7().bytes,
        occurred_at=at,
        subject=Subject("bot", "openai", model, project, "chat", user),
        source=Source.TRACK,
        input_tokens=500,
        output_tokens=190,
        reasoning_tokens=10,
        cache_read_tokens=100,
        duration_ms=1_201,
        reported_nusd=nusd,
    )


@pytest.fixture(scope="module")
def server(module_database: Database) -> Iterator[ReadingServer]:
    with ReadingServer(module_database) as opened:
        yield opened


@pytest.fixture(scope="module")
def org(server: ReadingServer) -> Org:
    made = server.organisation("acme", "Asia/Kolkata")
    server.record(
        made,
        [
            call(NOW - 40 * MICROS_PER_DAY, nusd=7_000_000_000),
            call(NOW - MICROS_PER_DAY, nusd=123_456_789),
            call(NOW - MICROS_PER_DAY + 1, nusd=9_000_000_000_000_000_001, user="ann"),
            call(NOW - 2 * MICROS_PER_HOUR, "my-own-model", project="proj_2"),
        ],
    )
    return made


@pytest.fixture(scope="module")
def key(server: ReadingServer, org: Org) -> str:
    return server.key(org)


def test_the_answer_has_the_fields_of_the_reference_and_the_unpriced_beside_the_cost(
    server: ReadingServer, key: str
) -> None:
    body = server.get("/v1/costs", key).json()
    first, second = body["data"]
    assert (first["model"], first["provider"], first["requests"]) == ("gpt-4o", "openai", 2)
    assert (first["inputTokens"], first["outputTokens"], first["avgLatencyMs"]) == (1_200, 400, 1_201)
    assert (second["model"], second["totalCost"], second["unpricedRequests"]) == ("my-own-model", 0, 1)
    assert (body["meta"]["from"], body["meta"]["to"]) == ("2026-02-01", "2026-03-02")
    assert body["meta"]["total"]["requests"] == 3


def test_money_is_a_number_with_every_digit(server: ReadingServer, key: str) -> None:
    text = server.get("/v1/costs", key).text
    assert '"totalCost":9000000000.12345679,' in text


def test_a_last_day_is_included_and_days_begin_in_the_organisations_zone(
    server: ReadingServer, key: str
) -> None:
    # 2026-03-01T22:00Z is 03:30 of the second of March in Kolkata.
    ends = ("2026-03-01", "2026-03-02", "2026-03-01T22:00:00Z", "2026-03-01T22:00:00.000001Z")
    answers = [server.get("/v1/costs", key, **{"from": "2026-03-01", "to": end}).json() for end in ends]
    assert [body["meta"]["total"]["requests"] for body in answers] == [2, 3, 2, 3]


def test_groups_combine_with_a_piece_of_time_and_with_filters(server: ReadingServer, key: str) -> None:
    body = server.get("/v1/costs", key, groupBy="day,project,user", model="gpt-4o").json()
    assert [(row["day"], row["project"], row["projectId"], row["user"]) for row in body["data"]] == [
        ("2026-03-01", "proj_1", "proj_1", "ann"),
        ("2026-03-01", "proj_1", "proj_1", None),
    ]
    filtered = server.get("/v1/costs", key, groupBy="feature", projectId="proj_2", zone="UTC").json()
    assert [(row["feature"], row["requests"]) for row in filtered["data"]] == [("chat", 1)]


def test_rows_beyond_the_limit_are_told_and_stay_in_the_total(server: ReadingServer, key: str) -> None:
    meta = server.get("/v1/costs", key, limit=1).json()["meta"]
    assert (meta["hasMore"], meta["total"]["requests"]) == (True, 3)


@pytest.mark.parametrize(
    ("params", "field", "word"),
    [
        ({"groupBy": "colour"}, "groupBy", "provider"),
        ({"groupBy": "day,hour"}, "groupBy", "one of"),
        ({"groupBy": "agent,user,run,model"}, "groupBy", "at most 3"),
        ({"from": "2026-03-05", "to": "2026-03-01"}, "from", "before"),
        ({"from": "2026-02-30"}, "from", "date"),
        ({"zone": "Europe/Nowhere"}, "zone", "IANA"),
        ({"billing": "barter"}, "billing", "metered"),
        ({"from": "0001-01-01", "groupBy": "day"}, "from", "pieces"),
        ({"limit": 0}, "limit", "limit"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_field(
    server: ReadingServer, key: str, params: dict[str, object], field: str, word: str
) -> None:
    answer = server.get("/v1/costs", key, **params)
    body = answer.json()
    assert (answer.status_code, body["field"]) == (422, field)
    assert word in body["detail"]


def test_a_total_beyond_64_bits_is_given_exactly(server: ReadingServer) -> None:
    other = server.organisation("rich")
    for hour in range(3):
        most = call(NOW - hour * MICROS_PER_HOUR, f"model-{hour}", nusd=2**63 - 1)
        bot = most.subject._replace(agent=f"bot-{hour}", project=f"project-{hour}")
        server.record(other, [msgspec.structs.replace(most, subject=bot)])
    answer = server.get("/v1/costs", server.key(other), groupBy="feature")
    assert f'"totalCost":{3 * (2**63 - 1) // 10**9}.{3 * (2**63 - 1) % 10**9:09d},' in answer.text


def test_a_key_that_may_only_write_reads_nothing(server: ReadingServer, org: Org) -> None:
    assert server.get("/v1/costs", server.key(org, frozenset({Scope.INGEST}))).status_code == 403
    assert server.get("/v1/costs", "").status_code == 401


def test_another_organisation_sees_none_of_it(server: ReadingServer, org: Org) -> None:
    stranger = server.key(server.organisation("stranger"))
    body = server.get("/v1/costs", stranger, groupBy="user", user="ann").json()
    assert (body["data"], body["meta"]["total"]["requests"]) == ([], 0)
