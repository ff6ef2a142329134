"""`/v1/models` and `/v1/pricing`, what is unpriced, and repricing: the whole app on a real file."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

sys.path.append(str(Path(__file__).parent))

from priced_treasury import HOUR, INGEST, NOON, READ, PricedTreasury, call

from bursar.core.usage import ServiceTier
from support.engines import Database


@pytest.fixture
def treasury(database: Database) -> Iterator[PricedTreasury]:
    with PricedTreasury(database) as opened:
        yield opened
        assert opened.violations() == ()


@pytest.fixture(scope="module")
def shared(module_database: Database) -> Iterator[PricedTreasury]:
    """For questions that change nothing, and to make the lists only once."""
    with PricedTreasury(module_database) as opened:
        yield opened


def model(answer: httpx2.Response, provider: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in answer.json()["data"] if (one["provider"], one["id"]) == (provider, name)]
    return found


# The lists


def test_list_prices_need_no_credential_and_have_the_fields_of_the_reference(shared: PricedTreasury) -> None:
    answer = shared.get("/v1/models", key="")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=300")
    found = model(answer, "openai", "gpt-4o")
    assert (found["model"], found["contextWindow"]) == ("gpt-4o", 128_000)
    assert (found["inputPricePerMillion"], found["outputPricePerMillion"]) == (2.5, 10)
    assert len(answer.json()["data"]) > 1_000


def test_prices_are_json_numbers_with_all_digits_and_null_where_there_is_none(shared: PricedTreasury) -> None:
    numbers = [
        value
        for one in shared.get("/v1/models", key="").json()["data"]
        for value in (one["inputPricePerMillion"], one["outputPricePerMillion"])
    ]
    assert {type(value) for value in numbers} <= {int, float, type(None)}
    assert None in numbers


def test_the_pricing_table_has_both_units_and_names_that_find_the_model(shared: PricedTreasury) -> None:
    table = shared.get("/v1/pricing", key="").json()
    assert (table["currency"], table["unit"], table["updated_at"]) == (
        "usd", "per_1k_tokens", "2026-03-01T12:00:00Z",
    )  # fmt: skip
    assert table["models"]["gpt-4o"] == {
        "provider": "openai",
        "input_per_1k": 0.0025,
        "output_per_1k": 0.01,
        "input_per_million": 2.5,
        "output_per_million": 10,
    }
    assert table["models"]["openrouter/openai/gpt-4o"]["provider"] == "openrouter"
    assert table["aliases"]["gpt-4o-2024-11-20"] == "gpt-4o"
    assert set(table["aliases"].values()) <= set(table["models"])
    assert not set(table["aliases"]) & set(table["models"])


def test_a_credential_shows_the_organisations_own_prices_at_once_and_to_nobody_else(
    treasury: PricedTreasury,
) -> None:
    before = treasury.get("/v1/models")
    treasury.put_price(pattern="openai/gpt-4o", percent="-15")
    treasury.put_price(pattern="acme/own", per_million={"input_tokens": "0.000000001"})
    treasury.put_price(pattern="local", per_million={"output_tokens": "1"})
    treasury.put_price(pattern="future", valid_from="2027-01-01T00:00:00Z")
    after = treasury.get("/v1/models", key=treasury.key(treasury.acme, INGEST))
    assert after.headers["cache-control"] == "private, no-cache"
    assert model(before, "openai", "gpt-4o")["inputPricePerMillion"] == 2.5
    assert model(after, "openai", "gpt-4o")["inputPricePerMillion"] == 2.125
    assert '"inputPricePerMillion":0.000000001,' in after.text
    assert model(after, "custom", "local")["outputPricePerMillion"] == 1
    assert len(after.json()["data"]) == len(before.json()["data"]) + 2
    for key in ("", treasury.stranger):
        assert model(treasury.get("/v1/models", key=key), "openai", "gpt-4o")["inputPricePerMillion"] == 2.5
    own = treasury.get("/v1/pricing").json()["models"]
    assert (own["gpt-4o"]["input_per_1k"], own["acme/own"]["input_per_1k"]) == (0.002125, 1e-12)
    assert own["local"] == {"provider": "custom", "input_per_1k": None, "output_per_1k": 0.001,
                            "input_per_million": None, "output_per_million": 1}  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/models", "/v1/pricing"])
def test_a_client_that_has_the_list_already_gets_no_body(shared: PricedTreasury, path: str) -> None:
    tag = shared.get(path, key="").headers["etag"]
    again = shared.ask("GET", path, key="", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert shared.ask("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert shared.get(path, key="ak_local_" + "0" * 64).status_code == 401


def test_prices_of_another_day_are_shown_once_the_list_is_old(treasury: PricedTreasury) -> None:
    treasury.put_price(valid_from="2026-03-01T12:30:00Z")
    names = []
    for minutes in (0, 10, 31):
        treasury.now = NOON + minutes * HOUR // 60
        names.append({one["id"] for one in treasury.get("/v1/models").json()["data"]})
    assert ["own" in one for one in names] == [False, False, True]


def test_the_price_list_is_not_loaded_before_it_is_needed() -> None:
    program = "import sys, bursar.wiring; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


# What is unpriced


def test_usage_of_an_unknown_model_is_listed_and_never_costs_nothing(treasury: PricedTreasury) -> None:
    treasury.record(call(), call(NOON + HOUR, reported_nusd=0), call(provider="openai", model="gpt-4o"))
    body = treasury.get("/v1/models/unpriced").json()
    (found,) = body["data"]
    advice = found.pop("what_to_do")
    assert found == {
        "provider": "acme",
        "model": "own",
        "requests": 2,
        "tokens": 220,
        "first_at": "2026-03-01T12:00:00Z",
        "last_at": "2026-03-01T13:00:00Z",
    }
    assert "on no price list" in advice
    assert "'acme/own'" in advice
    costs = {one["model"]: one["cost_usd"] for one in treasury.get("/v1/events").json()["data"]}
    assert costs == {"own": None, "gpt-4o": "0.00035"}
    assert treasury.get("/v1/models/unpriced", key=treasury.stranger).json()["data"] == []


def test_the_advice_follows_from_why_there_is_no_price(treasury: PricedTreasury) -> None:
    treasury.record(
        call(),
        call(provider="openai", model="gpt-4o", input_audio_tokens=1),
        call(NOON - 24 * HOUR, model="new"),
        call(provider="deepseek", model="deepseek-chat", service_tier=ServiceTier.PRIORITY),
    )
    treasury.put_price(pattern="new", valid_from="2026-03-01T00:00:00Z")
    advice = {one["model"]: one["what_to_do"] for one in treasury.get("/v1/models/unpriced").json()["data"]}
    assert "on no price list" in advice["own"]
    assert "not for those of that time" in advice["new"]
    assert "used a unit, a service tier" in advice["gpt-4o"]
    assert "used a unit, a service tier" in advice["deepseek-chat"]


def test_the_list_of_the_unpriced_is_bounded_and_says_so(treasury: PricedTreasury) -> None:
    treasury.record(*(call(model=f"own-{n}") for n in range(3)))
    body = treasury.get("/v1/models/unpriced", limit=2).json()
    assert (len(body["data"]), body["has_more"]) == (2, True)
    assert treasury.get("/v1/models/unpriced", limit=0).json()["field"] == "limit"


# Repricing


def test_repricing_adds_exactly_what_the_price_says_and_a_second_time_nothing(
    treasury: PricedTreasury,
) -> None:
    treasury.record(
        call(NOON - 1),
        call(NOON, run="r", parent_run="root"),
        call(NOON + 5 * HOUR),
        call(model="other"),
        call(provider="openai", model="gpt-4o"),
    )
    treasury.record(call(), org=treasury.other)
    before = treasury.total()
    assert (before["totalCost"], before["unpricedRequests"], before["unpricedTokens"]) == (0.00035, 4, 440)
    price = {"input_tokens": "0.000000001", "output_tokens": "3"}
    treasury.put_price(
        per_million=price, valid_from="2026-03-01T12:00:00Z", valid_to="2026-03-01T17:00:00.000001Z"
    )
    dry = treasury.post("/v1/models/reprice", {"dry_run": True}).json()
    done = treasury.ask("POST", "/v1/models/reprice").json()
    assert dry | {"dry_run": False} == done == {
        "events": 4,
        "repriced": 2,
        "still_unpriced": 2,
        "refused": 0,
        "cost_added_usd": "0.000060002",
        "dry_run": False,
        "has_more": False,
        "next_cursor": None,
    }  # fmt: skip
    after = treasury.total()
    assert (after["totalCost"], after["unpricedRequests"], after["requests"]) == (0.000410002, 2, 5)
    assert {name: after[name] for name in after if "nput" in name or "utput" in name} == {
        name: before[name] for name in before if "nput" in name or "utput" in name
    }
    again = treasury.post("/v1/models/reprice", {}).json()
    assert (again["repriced"], again["events"], treasury.total()) == (0, 2, after)
    assert treasury.total(treasury.other)["unpricedRequests"] == 1


def test_a_repriced_event_shows_both_entries_and_the_card_of_its_price(treasury: PricedTreasury) -> None:
    treasury.record(call(input_audio_tokens=7))
    rates = {"input_tokens": "1", "output_tokens": "2", "input_audio_tokens": "40"}
    treasury.put_price(per_million=rates, note="from the contract")
    treasury.post("/v1/models/reprice", {"model": "own", "provider": "acme"})
    listed = treasury.get("/v1/events").json()["data"][0]
    event = treasury.get(f"/v1/events/{listed['id']}").json()
    assert (event["cost_usd"], event["cost_basis"], event["revision"]) == ("0.0004", "computed", 0)
    assert [(one["kind"], one["reason"], one["cost_usd"]) for one in event["entries"]][-2:] == [
        ("reverse", "reprice", None), ("post", "reprice", "0.0004"),
    ]  # fmt: skip
    assert event["price"]["origin"] == "the organisation's own price for 'acme/own'"
    assert [line["amount_usd"] for line in event["price"]["lines"]] == ["0.0001", "0.00002", "0.00028"]


def test_priced_events_keep_their_price_whatever_is_set_afterwards(treasury: PricedTreasury) -> None:
    treasury.record(call(provider="openai", model="gpt-4o"), call(reported_nusd=5))
    treasury.put_price(pattern="*", per_million={"input_tokens": "100", "output_tokens": "100"})
    assert treasury.post("/v1/models/reprice", {}).json()["events"] == 0
    assert treasury.total()["totalCost"] == 0.000350005


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": "a\x00"}, "model"),
        ({"model": 5}, "model"),
        ({"provider": "a" * 257}, "provider"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"cursor": "00"}, "cursor"),
        ({"all": True}, "all"),
        ([], ""),
    ],
)
def test_a_bad_request_to_reprice_is_refused_with_its_field(
    shared: PricedTreasury, body: object, field: str
) -> None:
    answer = shared.post("/v1/models/reprice", body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_repricing_needs_admin_and_the_unpriced_list_a_key_of_the_whole_organisation(
    treasury: PricedTreasury,
) -> None:
    reader = treasury.key(treasury.acme, READ)
    assert treasury.get("/v1/models/unpriced", key=reader).status_code == 200
    assert treasury.post("/v1/models/reprice", {}, key=reader).status_code == 403
    bound = {"name": "k", "scopes": ["admin"], "project": "p"}
    key = treasury.post("/v1/keys", bound).json()["raw_key"]
    assert treasury.get("/v1/models/unpriced", key=key).status_code == 403
    assert treasury.post("/v1/models/reprice", {}, key=key).status_code == 403
    assert treasury.get("/v1/models/unpriced", key="").status_code == 401
