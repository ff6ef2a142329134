"""Overrides as stored, the list of what is unpriced, and pricing it later: on a real file, proved after."""

import asyncio
import random
from typing import Any

import pytest
from audited_ledger import HOUR, NOON, AuditedLedger, event

from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import Org
from bursar.core.money import NUSD_MAX
from bursar.core.usage import Billing, RateLine, ServiceTier, UsageEvent
from bursar.ingestion.reprice import (
    BEGINNING,
    Repriced,
    RepriceQuery,
    Repricer,
    place_from_text,
    text_from_place,
)
from bursar.pricing.engine import CostBasis, PriceBook
from bursar.pricing.overrides import OverrideKind, PriceOverride
from bursar.pricing.ports import UnpricedModel
from bursar.storage.sql.directory import Limits
from bursar.storage.sql.prices import SqlPrices
from bursar.storage.sql.prices_unpriced import SqlUnpriced
from support.engines import Database

ACME, OTHER = Org(1), Org(2)
RATES = (RateLine("input_tokens", 2_500_000_000), RateLine("output_tokens", 10_000_000_000))


def absolute(pattern: str, lines: tuple[RateLine, ...] = RATES, **fields: object) -> PriceOverride:
    return PriceOverride(pattern=pattern, kind=OverrideKind.ABSOLUTE, lines=lines, **fields)


class Prices:
    """The stores under test over one ledger, with each call in a loop of its own."""

    def __init__(self, ledger: AuditedLedger) -> None:
        self.ledger = ledger
        self.readers = ledger.readers
        self.store = SqlPrices(ledger.store, self.readers, lambda: ledger.now)
        self.repricer = Repricer(ledger.store, SqlUnpriced(self.readers), ledger, lambda: ledger.now)

    def put(self, *overrides: PriceOverride, org: Org = ACME) -> list[bytes]:
        done = self.ledger.wait(self.store.put_all(org, overrides, at=self.ledger.now, actor="tester"))
        return [one.id for one in done]

    def listed(self, org: Org = ACME) -> list[PriceOverride]:
        return [one.override for one in self.ledger.wait(self.store.list(org))]

    def end(self, override_id: bytes, valid_to: int, org: Org = ACME) -> PriceOverride:
        return self.ledger.wait(self.store.end(org, override_id, valid_to=valid_to, actor="tester")).override

    def unpriced(self, org: Org = ACME, limit: int = 10) -> list[UnpricedModel]:
        return list(self.ledger.wait(self.store.unpriced(org, limit=limit)))

    def reprice(self, org: Org = ACME, events_max: int = 50_000, **query: object) -> Repriced:
        return self.ledger.wait(
            self.repricer.reprice(RepriceQuery(org, "tester", **query), events_max=events_max)
        )

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        return self.ledger.rows(sql, *values)[0]


@pytest.fixture
def prices(ledger: AuditedLedger) -> Prices:
    return Prices(ledger)


def unknown(name: str, at: int = NOON, **fields: object) -> UsageEvent:
    return event(name, at, provider="acme", model="own", **fields)


def cost(prices: Prices, org: Org = ACME) -> int:
    return int(prices.one("SELECT coalesce(sum(cost_nusd), 0) FROM agent_total WHERE org = ?", org)[0])


# Overrides


def test_an_override_comes_back_as_it_was_put_whatever_it_says(prices: Prices) -> None:
    given = [
        absolute("openai/gpt-4o", (*RATES, RateLine("input_tokens", 5_000_000_000, 200_000))),
        absolute("gpt-*", valid_from=NOON, valid_to=NOON + 1, service_tier=ServiceTier.BATCH, note="ünïcode"),
        PriceOverride(pattern="*", kind=OverrideKind.PERCENT, percent_bp=-1_500),
    ]
    prices.put(*given)
    assert prices.listed() == given
    assert prices.listed(OTHER) == []


def test_the_same_pattern_tier_and_beginning_is_replaced_keeps_its_id_and_counts_as_put_last(
    prices: Prices,
) -> None:
    first, _ = prices.put(absolute("acme/own"), absolute("acme/other"))
    again = absolute(" ACME/Own ", RATES[:1])
    assert prices.put(again) == [first]
    assert prices.listed() == [absolute("acme/other"), again]
    prices.put(absolute("acme/own", service_tier=ServiceTier.STANDARD), absolute("acme/own", valid_from=NOON))
    assert len(prices.listed()) == 4


def test_each_change_is_in_the_audit_log_with_what_it_replaced(prices: Prices) -> None:
    (made,) = prices.put(absolute("acme/own"))
    prices.put(absolute("acme/own", RATES[:1]))
    prices.end(made, NOON)
    rows = prices.ledger.rows(
        "SELECT action, actor, details FROM audit WHERE action LIKE 'price%' ORDER BY seq"
    )
    assert [row[:2] for row in rows] == [
        ("price.put", "tester"), ("price.put", "tester"), ("price.end", "tester"),
    ]  # fmt: skip
    assert ["before" in row[2] for row in rows] == [False, True, True]


def test_an_end_is_within_the_overrides_time_and_never_prolongs_it(prices: Prices) -> None:
    (made,) = prices.put(absolute("acme/own", valid_from=NOON))
    with pytest.raises(InvalidInput, match="after"):
        prices.end(made, NOON)
    assert prices.end(made, NOON + 10).valid_to == NOON + 10
    assert prices.end(made, NOON + 20).valid_to == NOON + 10
    assert prices.end(made, NOON + 5).valid_to == NOON + 5
    assert prices.listed()[0].valid_to == NOON + 5


def test_an_override_of_another_organisation_is_not_there(prices: Prices) -> None:
    (made,) = prices.put(absolute("acme/own"))
    with pytest.raises(NotFound):
        prices.end(made, NOON, org=OTHER)
    assert prices.listed()[0].valid_to is None


# What is unpriced


def test_the_list_counts_unpriced_usage_only_and_says_when_it_was(prices: Prices) -> None:
    prices.ledger.post([event("known"), unknown("a", NOON + 5 * HOUR), unknown("b", NOON, input_tokens=7)])
    prices.ledger.post([event("c", NOON + 1, provider="", model="zzz", reported_nusd=0)])
    prices.ledger.post([unknown("elsewhere")], OTHER)
    assert prices.unpriced() == [
        UnpricedModel("acme", "own", 2, 127, NOON, NOON + 5 * HOUR),
        UnpricedModel("", "zzz", 1, 110, NOON + 1, NOON + 1),
    ]
    assert len(prices.unpriced(limit=1)) == 1


def test_a_revision_that_says_the_cost_leaves_the_list(prices: Prices) -> None:
    prices.ledger.post([unknown("a"), unknown("b", NOON + 9)])
    prices.ledger.post([unknown("a", reported_nusd=5, revision=1)])
    assert prices.unpriced() == [UnpricedModel("acme", "own", 1, 110, NOON + 9, NOON + 9)]
    prices.ledger.post([unknown("b", NOON + 9, reported_nusd=5, revision=1)])
    assert prices.unpriced() == []


def test_more_unpriced_tokens_than_64_bits_hold_are_counted_exactly(prices: Prices) -> None:
    most = dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens"), 10**12)
    one = [unknown(f"a{n}", NOON + n * HOUR, project=f"p{n}", agent=f"bot{n}", **most) for n in range(4)]
    prices.ledger.post(one)
    assert prices.unpriced()[0].tokens == 12 * 10**12


# Repricing


def test_a_price_that_is_known_later_is_added_to_the_nano_dollar_and_only_once(prices: Prices) -> None:
    prices.ledger.post([event("known", reported_nusd=1), unknown("a"), unknown("b", input_tokens=1)])
    assert (prices.reprice(), cost(prices)) == (Repriced(2, 0, 2), 1)
    prices.ledger.book = PriceBook([absolute("acme/own", (RateLine("input_tokens", 1), *RATES[1:]))])
    # 100 × 10⁻⁶ nano-dollars are rounded up to one, beside 10 × 10,000; the second 1 + 100,000.
    assert prices.reprice() == Repriced(2, 2, 0, 0, 200_002)
    assert cost(prices) == 200_003
    entries = prices.one("SELECT count(*) FROM entry")[0]
    assert (prices.reprice(), entries, prices.unpriced()) == (Repriced(), 4, [])
    assert prices.one("SELECT count(*) FROM entry")[0] == 4


def test_a_dry_run_says_the_same_and_changes_nothing(prices: Prices) -> None:
    prices.ledger.post([unknown("a"), unknown("b")])
    prices.ledger.book = PriceBook([absolute("acme/own")])
    would = prices.reprice(dry_run=True)
    assert (cost(prices), prices.one("SELECT count(*) FROM entry")[0]) == (0, 0)
    assert would == prices.reprice()
    assert cost(prices) == would.added_nusd == 700_000


def test_each_event_is_priced_by_its_own_time_tier_billing_and_report(prices: Prices) -> None:
    prices.ledger.post(
        [
            unknown("early", NOON - 1),
            unknown("first", NOON),
            unknown("late", NOON + 10),
            unknown("batch", NOON, service_tier=ServiceTier.BATCH),
            unknown("zero", NOON, reported_nusd=0),
            unknown("subscribed", NOON, billing=Billing.SUBSCRIPTION, is_error=True),
        ]
    )
    prices.ledger.book = PriceBook(
        [
            absolute("acme/own", valid_from=NOON, valid_to=NOON + 10, service_tier=ServiceTier.STANDARD),
            absolute("acme/own", RATES[:1], valid_from=NOON, service_tier=ServiceTier.BATCH),
        ]
    )
    assert prices.reprice() == Repriced(6, 3, 3, 0, 3 * 350_000)
    left = prices.ledger.rows("SELECT occurred_at FROM unpriced_event ORDER BY 1")
    assert [row[0] for row in left] == [NOON - 1, NOON, NOON + 10]  # batch: no price for its output


def test_media_units_runs_and_flags_stay_as_they_were(prices: Prices) -> None:
    media = {"input_audio_tokens": 3, "output_image_tokens": 4, "web_searches": 2}
    prices.ledger.post([
        unknown("a", run="child", parent_run="root", session="s", time_stamped=True, clock_suspect=True,
                attributes={"tag": "x"}, **media),
    ])  # fmt: skip
    lines = (*RATES, *(RateLine(unit, 1_000_000) for unit in media))
    prices.ledger.book = PriceBook([absolute("acme/own", lines)])
    assert prices.reprice().added_nusd == 350_000 + 9
    columns = "flags & 16383, run, session, media, attributes, occurred_at, user, duration_ms"
    before = prices.one(f"SELECT {columns} FROM event")
    assert prices.one(f"SELECT {columns} FROM entry WHERE sign = 1") == before
    run = prices.one("SELECT cost_nusd, requests, unpriced_requests FROM run WHERE parent IS NOT NULL")
    assert run == (350_009, 1, 0)


def test_a_repriced_event_keeps_its_revision_and_may_be_revised_later(prices: Prices) -> None:
    prices.ledger.post([unknown("a"), unknown("b", revision=7)])
    prices.ledger.book = PriceBook([absolute("acme/own")])
    prices.reprice()
    rows = prices.ledger.rows("SELECT revision FROM event_key ORDER BY revision")
    assert [row[0] for row in rows] == [0, 7]
    again = prices.ledger.post([unknown("a"), unknown("b", revision=8, input_tokens=0)])
    assert (list(again.duplicates), list(again.conflicts), again.recorded) == ([0], [], 2)
    assert cost(prices) == 350_000 + 100_000


def test_a_report_that_did_not_count_before_is_taken_when_the_cost_basis_is_another(prices: Prices) -> None:
    prices.ledger.book = PriceBook(basis=CostBasis.COMPUTED)
    prices.ledger.post(
        [
            unknown("paid", reported_nusd=7),
            unknown("failed", reported_nusd=0, is_error=True),
            unknown("subscribed", reported_nusd=0, billing=Billing.SUBSCRIPTION),
            unknown("zero", reported_nusd=0),
        ]
    )
    prices.ledger.book = PriceBook(basis=CostBasis.AUTO)
    assert prices.reprice() == Repriced(4, 3, 1, 0, 7)
    assert prices.unpriced()[0].requests == 1


def test_a_reprice_after_a_revision_reverses_what_the_revision_posted(prices: Prices) -> None:
    prices.ledger.post([unknown("a")])
    prices.ledger.post([unknown("a", revision=1, input_tokens=0)])
    prices.ledger.book = PriceBook([absolute("acme/own")])
    assert prices.reprice().added_nusd == 100_000
    entries = prices.ledger.rows("SELECT sign, reason, revision, corrects FROM entry ORDER BY seq")
    assert entries == [(-1, "revision", 1, None), (1, "revision", 1, None),
                       (-1, "reprice", 1, 2), (1, "reprice", 1, 2)]  # fmt: skip


def test_only_the_named_model_or_provider_is_gone_through(prices: Prices) -> None:
    audio = event("d", provider="", input_audio_tokens=1)  # the model's name says whose it is
    prices.ledger.post(
        [unknown("a"), event("b", provider="", model="own"), event("c", model="gpt-nine"), audio]
    )
    prices.ledger.book = PriceBook([absolute("*", (*RATES, RateLine("input_audio_tokens", 1)))])
    assert prices.reprice(model="none").events == 0
    assert prices.reprice(model="own", provider="acme").repriced == 1
    assert prices.reprice(provider="openai").repriced == 2
    assert prices.reprice(model="own").repriced == 1


def test_a_long_list_is_gone_through_in_calls_that_go_on_where_the_last_one_ended(prices: Prices) -> None:
    prices.ledger.post([unknown(f"{n}", NOON + n % 7) for n in range(600)])
    prices.ledger.book = PriceBook([absolute("acme/own", valid_from=NOON + 3)])
    first = prices.reprice(events_max=300)
    assert first.events == 300
    assert first.after is not None
    rest = prices.reprice(after=place_from_text(text_from_place(first.after)))
    assert (rest.events, rest.after) == (300, None)
    assert first.repriced + rest.repriced == sum(n % 7 >= 3 for n in range(600))
    assert prices.reprice(events_max=100).events == 100  # begun again, it finds those still unpriced


@pytest.mark.parametrize("text", ["", "00", "zz", "0" * 63, "ü" * 64])
def test_a_place_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        place_from_text(text)
    assert place_from_text(text_from_place(BEGINNING._replace(key=bytes(16)))).model == -1


def test_two_reprices_at_once_and_new_events_between_post_each_event_once(prices: Prices) -> None:
    prices.ledger.post([unknown(f"{n}") for n in range(400)])
    prices.ledger.book = PriceBook([absolute("acme/own")])

    async def race() -> list[Repriced]:
        query = RepriceQuery(ACME, "tester")
        both = asyncio.gather(*(prices.repricer.reprice(query) for _ in range(2)))
        await prices.ledger.intake.record(ACME, [unknown(f"new{n}") for n in range(20)])
        return await both

    done = prices.ledger.wait(race())
    assert sum(one.repriced for one in done) == 400
    assert cost(prices) == 420 * 350_000


def test_what_would_leave_64_bits_stays_unpriced_and_its_neighbours_get_their_price(prices: Prices) -> None:
    prices.ledger.post([event("rich", reported_nusd=NUSD_MAX - 10, agent="full")])
    prices.ledger.post([unknown("a", agent="full"), unknown("b", NOON + HOUR), unknown("c", NOON + HOUR)])
    prices.ledger.book = PriceBook([absolute("acme/own")])
    assert prices.reprice() == Repriced(3, 2, 0, 1, 700_000)
    assert prices.unpriced()[0].requests == 1


def test_a_model_beyond_the_cap_of_names_is_priced_by_the_name_that_was_sent(database: Database) -> None:
    ledger = AuditedLedger(database, limits=Limits(others=1))
    prices = Prices(ledger)
    ledger.post([event("a"), unknown("b")])
    ledger.book = PriceBook([absolute("acme/own")])
    assert prices.unpriced()[0].model == "(other)"
    assert prices.reprice().repriced == 1
    assert ledger.verify().violations == ()
    ledger.close()


def test_another_organisation_is_not_touched(prices: Prices) -> None:
    prices.ledger.post([unknown("a")])
    prices.ledger.post([unknown("a")], OTHER)
    prices.ledger.book = PriceBook([absolute("acme/own")])
    prices.reprice(OTHER)
    assert (cost(prices), cost(prices, OTHER)) == (0, 350_000)


@pytest.mark.parametrize("seed", range(5))
def test_after_a_reprice_the_ledger_says_what_it_would_have_said_with_the_price_from_the_start(
    prices: Prices, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - made-up traffic
    events = [
        event(
            f"{n}",
            NOON + chance.randrange(3 * HOUR),
            model=chance.choice(["gpt-4o", "own-a", "own-b", "own-c"]),
            agent=chance.choice(["x", "y"]),
            run=chance.choice(["", "r1", "r2"]),
            input_tokens=chance.randrange(10**6),
            reasoning_tokens=chance.choice([0, 0, 55]),
            web_searches=chance.choice([0, 0, 3]),
            reported_nusd=chance.choice([None, None, 0, 12_345]),
            service_tier=chance.choice(list(ServiceTier)),
            is_error=chance.random() < 0.1,
        )
        for n in range(300)
    ]
    later = PriceBook([
        absolute("own-a", valid_from=NOON + HOUR),
        absolute("own-b", (*RATES, RateLine("web_searches", 10**13), RateLine("input_tokens", 1, 9 * 10**5))),
    ])  # fmt: skip
    prices.ledger.post(events)
    before = cost(prices)
    assert prices.reprice(dry_run=True).repriced == 0
    prices.ledger.book = later
    added = prices.reprice().added_nusd
    expected = [later.price(one).cost_nusd for one in events]
    assert cost(prices) == before + added == sum(one or 0 for one in expected)
    unpriced = prices.one("SELECT sum(unpriced_requests) FROM rollup_user")[0]
    assert unpriced == expected.count(None) > 0
