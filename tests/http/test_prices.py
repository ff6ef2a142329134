"""`/v1/prices`: set, import, end and explain prices, over the whole app and a real file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import Database

sys.path.append(str(Path(__file__).parent))

from priced_treasury import HOUR, INGEST, NOON, READ, PricedTreasury, call


@pytest.fixture
def treasury(database: Database) -> Iterator[PricedTreasury]:
    with PricedTreasury(database) as opened:
        yield opened
        assert opened.violations() == ()


@pytest.fixture(scope="module")
def shared(module_database: Database) -> Iterator[PricedTreasury]:
    """For questions that change nothing."""
    with PricedTreasury(module_database) as opened:
        yield opened


# Setting a price


def test_a_price_is_answered_and_listed_as_it_was_set(treasury: PricedTreasury) -> None:
    made = treasury.put_price(
        pattern="Acme/Own",
        per_million={"input_tokens": "2.5", "output_tokens": 10, "request": "0.000000001"},
        context_tiers=[{"above_tokens": 200_000, "per_million": {"input_tokens": "5"}}],
        valid_from="2026-03-01T13:00:00+02:00",
        valid_to="2026-03-01T12:00:00.5Z",
        service_tier="batch",
        note="contract 7",
    )
    assert made == {
        "id": made["id"],
        "pattern": "Acme/Own",
        "state": "active",
        "valid_from": "2026-03-01T11:00:00Z",
        "valid_to": "2026-03-01T12:00:00.5Z",
        "per_million": {"input_tokens": "2.50", "output_tokens": "10.00", "request": "0.000000001"},
        "context_tiers": [{"above_tokens": 200_000, "per_million": {"input_tokens": "5.00"}}],
        "percent": None,
        "service_tier": "batch",
        "note": "contract 7",
        "created_at": "2026-03-01T12:00:00Z",
        "created_by": made["created_by"],
    }
    assert made["id"].startswith("prc_")
    assert made["created_by"].startswith("key:key_")
    assert treasury.get("/v1/prices").json() == {"data": [made], "has_more": False, "next_cursor": None}


def test_a_price_begins_now_unless_it_says_when(treasury: PricedTreasury) -> None:
    made = treasury.post("/v1/prices", {"pattern": "gpt-4o", "percent": "-12.5"}).json()
    assert (made["valid_from"], made["percent"], made["per_million"]) == (
        "2026-03-01T12:00:00Z",
        "-12.5",
        None,
    )
    treasury.record(*(call(at, provider="openai", model="gpt-4o") for at in (NOON - 1, NOON)))
    assert treasury.total()["totalCost"] == 0.00065625


def test_new_events_get_the_price_at_once_and_another_organisation_does_not(
    treasury: PricedTreasury,
) -> None:
    treasury.record(call())
    assert (treasury.total()["totalCost"], treasury.total()["unpricedRequests"]) == (0, 1)
    treasury.put_price()
    treasury.record(call(), call(NOON + HOUR, service_tier=1))
    treasury.record(call(), org=treasury.other)
    assert (treasury.total()["totalCost"], treasury.total()["unpricedRequests"]) == (0.0007, 1)
    assert treasury.total(treasury.other)["unpricedRequests"] == 1
    assert treasury.get("/v1/prices", key=treasury.stranger).json()["data"] == []


def test_a_price_says_whether_it_holds_now(treasury: PricedTreasury) -> None:
    treasury.put_price(pattern="a", valid_from="2026-03-01T12:00:00.000001Z")
    treasury.put_price(pattern="b", valid_to="2026-03-01T12:00:00Z")
    treasury.put_price(pattern="c", valid_from="2026-03-01T12:00:00Z")
    states = [one["state"] for one in treasury.get("/v1/prices").json()["data"]]
    assert states == ["scheduled", "ended", "active"]


def test_the_list_has_pages(treasury: PricedTreasury) -> None:
    for number in range(5):
        treasury.put_price(pattern=f"m{number}")
    first = treasury.get("/v1/prices", limit=3).json()
    rest = treasury.get("/v1/prices", limit=3, cursor=first["next_cursor"]).json()
    assert [one["pattern"] for one in first["data"] + rest["data"]] == ["m0", "m1", "m2", "m3", "m4"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert treasury.get("/v1/prices", cursor="x").json()["field"] == "cursor"


GOOD = {"pattern": "acme/own", "per_million": {"input_tokens": "1"}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"per_million": {"input_tokens": "-1"}}, "per_million.input_tokens"),
        ({"per_million": {"input_tokens": -0.000001}}, "per_million.input_tokens"),
        ({"per_million": {"input_tokens": "NaN"}}, "per_million.input_tokens"),
        ({"per_million": {"output_tokens": "Infinity"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "1e400"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "1e999999999"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "1e-999999999"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "0.0000000012"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": 1_000_001}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": 10**400}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "1_0"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "\u0661"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "1" * 65}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": "two"}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": True}}, "per_million.output_tokens"),
        ({"per_million": {"output_tokens": {}}}, "per_million.output_tokens"),
        ({"per_million": {"tokens": "1"}}, "per_million.tokens"),
        ({"per_million": {}}, "per_million"),
        ({"per_million": [1]}, "per_million"),
        ({"per_million": None}, "per_million"),
        ({"percent": "5"}, "per_million"),
        ({"per_million": None, "percent": "-100.01"}, "percent"),
        ({"per_million": None, "percent": "10000.5"}, "percent"),
        ({"per_million": None, "percent": "1.005"}, "percent"),
        ({"per_million": None, "percent": "5", "context_tiers": [{"above_tokens": 1, "per_million": {}}]},
         "context_tiers"),
        ({"context_tiers": [{"above_tokens": 0, "per_million": {"input_tokens": 1}}]},
         "context_tiers.0.above_tokens"),
        ({"context_tiers": [{"above_tokens": 5, "per_million": {"output_tokens": 1}}]}, "context_tiers"),
        ({"context_tiers": 2 * [{"above_tokens": 5, "per_million": {"input_tokens": 1}}]}, "context_tiers"),
        ({"pattern": ""}, "pattern"),
        ({"pattern": "  "}, "pattern"),
        ({"pattern": "a\x00"}, "pattern"),
        ({"pattern": "a" * 257}, "pattern"),
        ({"pattern": 5}, "pattern"),
        ({"valid_from": "yesterday"}, "valid_from"),
        ({"valid_from": "2026-03-01T12:00:00"}, "valid_from"),
        ({"valid_from": 1_772_366_400}, "valid_from"),
        ({"valid_to": "2026-03-01T11:00:00Z"}, "valid_to"),
        ({"valid_to": "always"}, "valid_to"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"note": "a\x1b"}, "note"),
        ({"price": 1}, "price"),
    ],
)  # fmt: skip
def test_a_bad_price_is_refused_with_its_field(
    shared: PricedTreasury, change: dict[str, object], field: str
) -> None:
    answer = shared.ask("POST", "/v1/prices", content=json.dumps(GOOD | change).encode())
    body = answer.json()
    assert (answer.status_code, body.get("field")) == (422, field)
    assert isinstance(body["detail"], str)
    assert shared.get("/v1/prices").json()["data"] == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"5", b"{", b"NaN", b"\xff", b"[" * 100_000, b'{"per_million": {"input_tokens": NaN}}'],
)
def test_a_body_that_is_no_price_is_refused(shared: PricedTreasury, raw: bytes) -> None:
    for path in ("/v1/prices", "/v1/prices/explain"):
        assert shared.ask("POST", path, content=raw).status_code == 422
    assert shared.ask("POST", "/v1/prices", content=b" " * 2**19).status_code == 413


def test_reading_needs_the_scope_read_and_changing_needs_admin(treasury: PricedTreasury) -> None:
    reader, writer = treasury.key(treasury.acme, READ), treasury.key(treasury.acme, INGEST)
    assert treasury.get("/v1/prices", key=reader).status_code == 200
    assert treasury.get("/v1/prices", key=writer).status_code == 403
    assert treasury.get("/v1/prices/explain", key="", model="gpt-4o").status_code == 401
    for path in ("/v1/prices", "/v1/prices/import", "/v1/prices/prc_x/end"):
        assert treasury.post(path, GOOD, key=reader).status_code == 403
    bound = treasury.post("/v1/keys", {"name": "k", "scopes": ["admin"], "agent": "bot"}).json()["raw_key"]
    assert treasury.post("/v1/prices", GOOD, key=bound).status_code == 403


# Ending


def test_an_ended_price_is_listed_and_prices_nothing_after_its_end(treasury: PricedTreasury) -> None:
    made = treasury.put_price()
    end = f"/v1/prices/{made['id']}/end"
    treasury.now = NOON + HOUR
    assert treasury.post(end, {}).json()["valid_to"] == "2026-03-01T13:00:00Z"
    assert treasury.ask("POST", end).json()["state"] == "ended"
    treasury.record(call(NOON + HOUR - 1), call(NOON + HOUR))
    assert (treasury.total()["totalCost"], treasury.total()["unpricedRequests"]) == (0.00035, 1)
    assert (
        treasury.post(end, {"valid_to": "2026-03-01T12:30:00Z"}).json()["valid_to"] == "2026-03-01T12:30:00Z"
    )
    assert treasury.post(end, {"valid_to": "soon"}).json()["field"] == "valid_to"
    assert treasury.post(end, {}, key=treasury.stranger).status_code == 404
    assert treasury.post("/v1/prices/zzz/end", {}).json()["field"] == "price_id"


# Importing


FILE = b"""{
  "sample_spec": {"mode": "one of many"},
  "acme/own": {"litellm_provider": "acme", "input_cost_per_token": 1.25e-07,
               "output_cost_per_token": 6.000000000000001e-07, "output_cost_per_token_batches": 3e-7},
  "acme/dear": {"litellm_provider": "acme", "input_cost_per_token": 2},
  "acme/odd": {"litellm_provider": "acme", "input_cost_per_token": "abc"},
  "picture": {"litellm_provider": "acme", "input_cost_per_pixel": 1e-9},
  "twin": {"litellm_provider": "acme", "input_cost_per_token": 1e-6},
  "acme/twin": {"litellm_provider": "acme", "input_cost_per_token": 2e-6}
}"""


def test_a_litellm_file_gives_exact_prices_and_says_what_it_left_out(treasury: PricedTreasury) -> None:
    treasury.record(call())  # the organisation's book is in use
    dry = treasury.ask("POST", "/v1/prices/import?dry_run=true", content=FILE).json()
    assert treasury.get("/v1/prices").json()["data"] == []
    done = treasury.ask("POST", "/v1/prices/import?valid_from=always", content=FILE).json()
    assert (done | {"dry_run": True}) == dry
    assert (done["imported"], done["unchanged"], done["models"]) == (3, 0, 2)
    left_out = {skipped["entry"]: skipped["reason"] for skipped in done["skipped"]}
    assert left_out.keys() == {"sample_spec", "acme/dear", "acme/odd", "picture: input_cost_per_pixel",
                               "picture", "acme/twin"}  # fmt: skip
    assert "input_cost_per_token must be a number" in left_out["acme/odd"]
    prices = treasury.get("/v1/prices").json()["data"]
    assert [(one["pattern"], one["service_tier"], one["per_million"]) for one in prices] == [
        ("acme/own", "standard", {"input_tokens": "0.125", "output_tokens": "0.60"}),
        ("acme/own", "batch", {"input_tokens": "0.125", "output_tokens": "0.30"}),
        ("acme/twin", "standard", {"input_tokens": "2.00"}),
    ]
    treasury.record(call(input_tokens=8_000_001))
    assert (treasury.total()["totalCost"], treasury.total()["unpricedRequests"]) == (1.000006125, 1)


def test_an_import_takes_only_what_is_new_so_that_it_may_be_repeated_every_day(
    treasury: PricedTreasury,
) -> None:
    path = "/v1/prices/import"
    assert treasury.ask("POST", path, content=FILE).json()["imported"] == 3
    treasury.now += 24 * HOUR
    again = treasury.ask("POST", path, content=FILE).json()
    assert (again["imported"], again["unchanged"], again["models"]) == (0, 3, 0)
    dearer = FILE.replace(b"3e-7", b"4e-7")
    assert treasury.ask("POST", path, content=dearer).json()["imported"] == 1
    treasury.now += 1
    assert treasury.ask("POST", path, content=dearer).json()["unchanged"] == 3
    assert treasury.ask("POST", path, content=FILE).json()["imported"] == 1  # and back again
    earlier = treasury.ask("POST", f"{path}?valid_from=2026-01-01T00:00:00Z", content=FILE).json()
    assert earlier["imported"] == 3
    ending = treasury.ask("POST", f"{path}?valid_to=2027-01-01T00:00:00Z", content=FILE).json()
    assert ending["imported"] == 3


def test_names_that_no_model_can_have_are_left_out_of_an_import(treasury: PricedTreasury) -> None:
    entry = {"input_cost_per_token": 1e-6}
    odd = {"a\x00": entry, "b" * 300: entry, "\ud83d": 5, "c*": entry, "fine": entry}
    done = treasury.ask("POST", "/v1/prices/import", content=json.dumps(odd).encode()).json()
    assert (done["imported"], len(done["skipped"])) == (1, 4)
    assert treasury.get("/v1/prices").json()["data"][0]["pattern"] == "fine"


@pytest.mark.parametrize(
    ("query", "raw", "field"),
    [
        ("", b"[]", None),
        ("", b"", None),
        ("", b"\xff\xfe", None),
        ("", b'{"a":' * 100_000, None),
        ("", b'{"a": NaN}', None),
        ("", b'{"a": ' + b"9" * 5_000 + b"}", None),
        ("?valid_from=now", b"{}", "valid_from"),
        ("?valid_from=2026-03-01T12:00:00Z&valid_to=2026-03-01T12:00:00Z", b"{}", "valid_to"),
        ("?valid_until=always", b"{}", "valid_until"),
    ],
)
def test_a_file_that_is_none_is_refused(
    shared: PricedTreasury, query: str, raw: bytes, field: str | None
) -> None:
    answer = shared.ask("POST", f"/v1/prices/import{query}", content=raw)
    assert (answer.status_code, answer.json().get("field")) == (422, field)


# Explaining


def test_an_explanation_has_card_factors_decision_and_sentences(treasury: PricedTreasury) -> None:
    treasury.put_price(
        context_tiers=[{"above_tokens": 1_000, "per_million": {"input_tokens": "5.000000001"}}]
    )
    usage = {"provider": "ACME", "model": "own", "input_tokens": 1_001, "web_searches": 1}
    body = treasury.get("/v1/prices/explain", at="2020-01-01T00:00:00Z", **usage).json()
    assert body["lines"] == [
        {"unit": "input_tokens", "units": 1_001, "usd_per_million": "5.000000001",
         "from_context_tokens": 1_000, "amount_usd": "0.005005000001001"},
    ]  # fmt: skip
    assert body["card"]["origin"] == "the organisation's own price for 'acme/own'"
    assert (body["unpriced_units"], body["cost_usd"], body["context_tokens"]) == (
        ["web_searches"],
        None,
        1_001,
    )
    assert body["sentences"][-1].endswith("what counts is nothing: it is unpriced.")
    priced = treasury.post("/v1/prices/explain", usage | {"web_searches": 0}).json()
    assert (priced["computed_cost_usd"], priced["cost_usd"]) == ("0.005005001", "0.005005001")
    assert (priced["card"]["id"], priced["at"]) == (body["card"]["id"], "2026-03-01T12:00:00Z")


@pytest.mark.parametrize(
    ("question", "cost", "computed"),
    [
        ({}, "0.00", "0.00"),
        ({"input_tokens": 100, "output_tokens": 10}, "0.00035", "0.00035"),
        ({"input_tokens": 100, "reported_cost_usd": "0.1"}, "0.10", "0.00025"),
        ({"input_tokens": 100, "reported_cost_usd": 0}, "0.00025", "0.00025"),
        ({"input_tokens": 100, "reported_cost_usd": "0", "status": "error"}, "0.00", "0.00025"),
        ({"input_tokens": 100, "reported_cost_usd": "0", "billing": "subscription"}, "0.00", "0.00025"),
        ({"input_tokens": 100, "service_tier": "batch"}, "0.000125", "0.000125"),
    ],
)
def test_list_prices_are_explained_without_any_override(
    shared: PricedTreasury, question: dict[str, object], cost: str, computed: str
) -> None:
    asked = {"provider": "openai", "model": "gpt-4o", **question}
    for body in (shared.get("/v1/prices/explain", **asked), shared.post("/v1/prices/explain", asked)):
        assert (body.json()["cost_usd"], body.json()["computed_cost_usd"]) == (cost, computed)


def test_an_unknown_model_is_explained_as_unpriced(shared: PricedTreasury) -> None:
    body = shared.get("/v1/prices/explain", model="zzz", input_tokens=5).json()
    assert (body["card"], body["lines"], body["cost_usd"]) == (None, [], None)
    assert "on no price list" in body["sentences"][0]


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({}, "model"),
        ({"model": "a\x07"}, "model"),
        ({"model": "a", "input_tokens": -1}, "input_tokens"),
        ({"model": "a", "input_tokens": 1.5}, "input_tokens"),
        ({"model": "a", "input_tokens": 10**12 + 1}, "input_tokens"),
        ({"model": "a", "reported_cost_usd": "-1"}, "reported_cost_usd"),
        ({"model": "a", "reported_cost_usd": "1e99"}, "reported_cost_usd"),
        ({"model": "a", "reported_cost_usd": "nan"}, "reported_cost_usd"),
        ({"model": "a", "at": "2026"}, "at"),
        ({"model": "a", "tokens": 5}, "tokens"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_field(
    shared: PricedTreasury, question: dict[str, object], field: str
) -> None:
    for answer in (shared.get("/v1/prices/explain", **question), shared.post("/v1/prices/explain", question)):
        assert (answer.status_code, answer.json()["field"]) == (422, field)
