"""What filled a budget at a moment: its numbers then, the holds that counted, and the spend."""

import asyncio
from collections.abc import Iterator

import pytest

from bursar.core.ids import new_id, text_from_id
from bursar.core.time import MICROS_PER_MINUTE, text_from_micros
from bursar.enforcement.questions import Void
from bursar.identity.keys import Scope
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.budget_explain import PAGE_SCAN_MAX, SUM_SCAN_MAX
from bursar.storage.sql.ports import Transaction
from support.desk import NOW, event, open_desk
from support.engines import Database
from support.spender import BOT, Spender

AT_ONCE = 10_000


@pytest.fixture
def spender(database: Database) -> Iterator[Spender]:
    with open_desk(database) as desk:
        yield Spender(desk)


def figures(found: dict[str, object]) -> list[object]:
    window = found["window"]
    assert isinstance(window, dict)
    return [window[name] for name in ("settled", "held", "remaining")]


def test_it_shows_the_holds_biggest_first_and_the_spend_newest_first(spender: Spender) -> None:
    settled = spender.hold(10)
    spender.pass_minutes()
    spender.settle(settled, 7)
    spender.pass_minutes()
    spender.desk.ingest(event(timestamp=text_from_micros(spender.now - 1), cost=0.02))
    small, big = spender.hold(3), spender.hold(20)
    found = spender.explain()
    assert found["budget"] == {"id": spender.budget, "name": "daily"}
    assert found["at"] == text_from_micros(spender.now)
    assert [hold["id"] for hold in found["holds"]] == [text_from_id("hold", h.id) for h in (big, small)]
    assert found["holds"][0] | {"id": ""} == {
        "id": "",
        "agent": "bot",
        "model": "gpt-4o",
        "state": "open",
        "amount": "0.20",
        "created_at": text_from_micros(spender.now),
        "expires_at": text_from_micros(spender.now + 15 * MICROS_PER_MINUTE),
    }
    unheld, posted = found["spend"]
    assert unheld["event_id"].startswith("evt_")
    assert (unheld["agent"], unheld["amount"], unheld["effect"]) == ("research-bot", "0.02", "unheld")
    assert posted == {
        "hold_id": text_from_id("hold", settled.id),
        "agent": "bot",
        "amount": "0.07",
        "effect": "settled",
        "at": text_from_micros(spender.now - MICROS_PER_MINUTE),
    }
    assert figures(found) == ["0.09", "0.23", "0.68"]
    assert (found["has_more"], found["next_cursor"], found["holds_count"]) == (False, None, 2)


def test_a_past_moment_shows_what_counted_then(spender: Spender) -> None:
    first, second = spender.hold(40), spender.hold(30)
    full = spender.pass_minutes()
    spender.settle(first, 25)
    half = spender.pass_minutes()
    spender.ask(Void(second.id))
    spender.hold(5)
    before = spender.explain(at=text_from_micros(NOW + 1))
    assert figures(before) == ["0.00", "0.00", "1.00"]
    assert (before["holds"], before["spend"]) == ([], [])
    then = spender.explain(at=full)
    assert figures(then) == ["0.00", "0.70", "0.30"]
    assert [(hold["amount"], hold["state"]) for hold in then["holds"]] == [
        ("0.40", "settled"),
        ("0.30", "voided"),
    ]
    assert then["spend"] == []
    later = spender.explain(at=half)
    assert figures(later) == ["0.25", "0.30", "0.45"]
    assert [hold["id"] for hold in later["holds"]] == [text_from_id("hold", second.id)]
    assert [spend["amount"] for spend in later["spend"]] == ["0.25"]
    assert figures(spender.explain()) == ["0.25", "0.05", "0.70"]


def test_pages_of_spend_belong_to_one_moment_and_end(spender: Spender) -> None:
    for cents in range(1, 6):
        spender.settle(spender.hold(cents), cents)
    seen, cursor = [], ""
    while True:
        found = spender.explain(limit="2", **({"cursor": cursor} if cursor else {}))
        seen += [spend["amount"] for spend in found["spend"]]
        if not found["has_more"]:
            break
        cursor = str(found["next_cursor"])
        spender.pass_minutes()
        spender.settle(spender.hold(9), 9)
    assert sorted(seen) == ["0.01", "0.02", "0.03", "0.04", "0.05"]


def test_what_is_read_for_one_answer_is_bounded(spender: Spender) -> None:
    """Between the window's two postings lie more of other budgets than a page or a sum may read."""
    spender.settle(spender.hold(1), 1)
    early = spender.pass_minutes()
    fill(spender, SUM_SCAN_MAX + PAGE_SCAN_MAX)
    spender.pass_minutes()
    spender.settle(spender.hold(2), 2)
    pages, cursor, found = 0, "", spender.explain()
    assert figures(found) == ["0.03", "0.00", "0.97"]
    seen = found["spend"]
    while found["has_more"]:
        assert found["next_cursor"] != cursor
        cursor = str(found["next_cursor"])
        found = spender.explain(cursor=cursor)
        seen += found["spend"]
        pages += 1
    assert [spend["amount"] for spend in seen] == ["0.02", "0.01"]
    assert pages == (SUM_SCAN_MAX + PAGE_SCAN_MAX) // PAGE_SCAN_MAX
    assert figures(spender.explain(at=early)) == ["0.01", "0.00", "0.99"]
    between = text_from_micros(spender.now - 1)
    fill(spender, SUM_SCAN_MAX, at=spender.now)
    assert figures(spender.explain(at=between)) == [None, "0.00", None]


def fill(spender: Spender, count: int, *, at: int | None = None) -> None:
    """Write postings of another budget straight into the database."""
    store, org = spender.desk.treasury.store, spender.desk.org
    parts = rows.packed_parts(((rows.WindowKey(b"other-budget-id!", "", 0), 1),))
    moment = spender.now if at is None else at
    values = [(org, new_id(), moment, parts) for _ in range(count)]
    sql = "INSERT INTO posting (org, source, part, effect, at, parts) VALUES (?, ?, 0, 'settled', ?, ?)"

    async def work(transaction: Transaction) -> None:
        for first in range(0, count, AT_ONCE):
            transaction.unit(org).connection.executemany(sql, values[first : first + AT_ONCE])

    spender.desk.run(store.transact(work))


def test_a_budget_per_run_is_explained_by_its_run(spender: Spender) -> None:
    per_run = spender.create(name="run", limit="0.50", period="run")
    spender.settle(spender.hold(4, BOT._replace(run="r-1")), 4)
    found = spender.explain(per_run, run="r-1")
    assert (found["window"]["run"], found["window"]["settled"]) == ("r-1", "0.04")
    assert len(found["spend"]) == 1
    unknown = spender.explain(per_run, run="r-2")
    assert (unknown["window"], unknown["holds"], unknown["spend"]) == (None, [], [])
    for budget, params in ((per_run, {}), (spender.budget, {"run": "r-1"})):
        refused = spender.desk.get(f"/v1/budgets/{budget}/explain", **params)
        assert (refused.status_code, refused.json()["field"]) == (422, "run")


def test_a_suspended_hold_still_counts(spender: Spender) -> None:
    suspending = spender.create(name="s", limit="1.00", on_expiry="suspense")
    hold = spender.hold(6)
    spender.pass_minutes(20)
    spender.desk.run(spender.desk.treasury.enforcement.run_due())
    found = spender.explain(suspending)
    assert [(one["id"], one["state"]) for one in found["holds"]] == [
        (text_from_id("hold", hold.id), "suspense")
    ]
    assert figures(found)[1] == "0.06"
    assert spender.explain()["holds"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-03-01T00:00:00"}, "at"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "lAAAAA"}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"until": "2026-03-01T00:00:00Z"}, "until"),
    ],
)
def test_bad_parameters_are_named(spender: Spender, params: dict[str, str], field: str) -> None:
    answer = spender.desk.get(f"/v1/budgets/{spender.budget}/explain", **params)
    assert answer.status_code == 422
    assert answer.json()["field"].endswith(field)


def test_unknown_and_foreign_budgets_are_not_found(spender: Spender) -> None:
    foreign = spender.desk.new_key(org=spender.desk.organisation("other"))
    for budget, key in ((spender.budget, foreign), ("bud_" + "0" * 32, None), ("nonsense", None)):
        answer = spender.desk.get(f"/v1/budgets/{budget}/explain", key=key)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_bound_key_reads_its_own_budgets_only(spender: Spender) -> None:
    own = spender.create(name="own", limit="1.00", scope={"agent": "bot"})
    key = spender.desk.new_key(Scope.READ, agent="bot")
    codes = [spender.desk.get(f"/v1/budgets/{b}/explain", key=key).status_code for b in (own, spender.budget)]
    assert codes == [200, 403]
    unscoped = spender.desk.new_key(Scope.INGEST)
    assert spender.desk.get(f"/v1/budgets/{own}/explain", key=unscoped).status_code == 403


def test_readers_work_beside_the_loop(spender: Spender) -> None:
    """An explanation is read in a reader's thread: the loop turns meanwhile."""
    fill(spender, PAGE_SCAN_MAX)

    async def both() -> int:
        desk = spender.desk
        headers = {"Authorization": f"Bearer {desk.key}"}
        asked = asyncio.create_task(desk.client.get(f"/v1/budgets/{spender.budget}/explain", headers=headers))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        assert asked.result().status_code == 200
        return turns

    assert spender.desk.run(both()) > 20
