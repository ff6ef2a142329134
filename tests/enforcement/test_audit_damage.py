"""Each kind of damage to budgets is found by the whole proof, and named by its check."""

from pathlib import Path

import pytest
from memory_engine import CALL, cost, numbered
from stored_engine import Files, StoredEngine, make_organisation

from bursar.budgets import lease
from bursar.budgets.budget import Budget
from bursar.core.periods import Period
from support.damage import inflict
from support.engines import Database

MONTHLY, HOURLY, PER_RUN = (numbered(number) for number in (901, 902, 903))


OPEN = "UPDATE hold SET {} WHERE state = 'open' AND kind = 'call'"
SETTLED = "UPDATE hold SET {} WHERE state = 'settled'"
LEGS_OF_OPEN = "legs = (SELECT legs FROM hold WHERE state = 'open' AND kind = 'call')"
LEGS_OF_SETTLED = "legs = (SELECT legs FROM hold WHERE state = 'settled')"
MONTH = f"UPDATE budget_window SET {{}} WHERE budget = x'{MONTHLY.hex()}'"
HOURS = f"UPDATE budget_window SET {{}} WHERE budget = x'{HOURLY.hex()}'"
RUN = f"UPDATE budget_window SET {{}} WHERE budget = x'{PER_RUN.hex()}'"
BUDGET = f"budget WHERE id = x'{MONTHLY.hex()}'"
AGAIN = "INSERT INTO posting SELECT org, source, 1, effect, at, parts FROM posting WHERE effect = 'settled'"

DAMAGE = {
    # I10: a hold's state against its legs, its settlement, its end.
    "a settled hold is open again": (SETTLED.format("state = 'open'"), "holds"),
    "an open hold is called settled": (OPEN.format("state = 'settled'"), "holds"),
    "an open hold is called expired": (OPEN.format("state = 'expired'"), "holds"),
    "a suspended hold has nothing open": (OPEN.format(f"state = 'suspense', {LEGS_OF_SETTLED}"), "holds"),
    "an open hold has ended": (OPEN.format("ended_at = 5"), "holds"),
    "a settled hold has no end": (SETTLED.format("ended_at = NULL"), "holds"),
    "a settled hold says no amounts": (SETTLED.format("settled = NULL"), "holds"),
    "a settled hold says other amounts": (SETTLED.format("settled = replace(settled, '25', '26')"), "holds"),
    "a settled hold names no key": (SETTLED.format("settle_key = NULL"), "holds"),
    "a settled hold has open legs": (SETTLED.format(LEGS_OF_OPEN), "holds"),
    "a voided hold was settled late": (
        "UPDATE hold SET state = 'settled_late' WHERE state = 'voided'",
        "holds",
    ),
    "a hold's call cannot be read": (OPEN.format("call = '{'"), "holds"),
    "a lease is no lease": ("UPDATE hold SET lease = NULL WHERE kind = 'lease'", "holds"),
    "a settlement is called late": ("UPDATE posting SET effect = 'late' WHERE effect = 'settled'", "holds"),
    # I10: postings.
    "a settlement is a correction": ("UPDATE posting SET effect = 'corrected'", "postings"),
    "a hold is settled twice": (AGAIN, "postings"),
    "a part is missing": ("UPDATE posting SET part = 2 WHERE effect = 'settled'", "postings"),
    "a posting is of nobody": (
        "UPDATE posting SET source = randomblob(16) WHERE effect = 'unheld'",
        "postings",
    ),
    "a posting comes from the future": ("UPDATE posting SET at = at + 86400000000 * 400", "postings"),
    # I1, I6, I7: counts, and excess that nothing explains.
    "what is settled is one off": (MONTH.format("settled = settled + 1, unheld = unheld + 1"), "windows"),
    "what is held is one off": (MONTH.format("held = held - 1"), "windows"),
    "the overrun excuses more than was spent": (MONTH.format("overrun = 900"), "windows"),
    "spend is excused that nobody posted": (MONTH.format("unheld = 900"), "windows"),
    "more came late than was spent": (MONTH.format("late = 900"), "windows"),
    "a limit is far below what is used": (MONTH.format("limit_amount = 1"), "windows"),
    # I11: place and state.
    "a window begins off its boundary": (MONTH.format("starts_at = starts_at + 1"), "windows"),
    "an hour ends off its boundary": (HOURS.format("ends_at = ends_at - 60000000"), "windows"),
    "a month lasts a day": (MONTH.format("ends_at = starts_at + 86400000000"), "windows"),
    "a running window winds down": (MONTH.format("state = 'closing'"), "windows"),
    "a window winds down for nobody": (HOURS.format("state = 'closing'"), "windows"),
    "a running window is closed": (RUN.format("state = 'closed'"), "windows"),
    "a window counts a run it has not": (HOURS.format("member = 'r'"), "windows"),
    "a run's window has no run": (RUN.format("member = ''"), "windows"),
    "a budget is gone": (f"DELETE FROM {BUDGET}", "windows"),
    "a budget cannot be read": (f"UPDATE budget SET scope = '[' WHERE id = x'{MONTHLY.hex()}'", "windows"),
    "a window cannot be read": (MONTH.format("alerted = '{'"), "windows"),
}


@pytest.fixture(scope="module")
def sound(module_database: Database) -> Database:
    """A database with holds in every state, a lease, spend without a hold, and four budgets."""
    files = Files(module_database)
    engine = StoredEngine(files)
    engine.create(Budget(id=MONTHLY, limit=1_000, created_at=1, period=Period.MONTHLY))
    engine.create(Budget(id=HOURLY, limit=500, created_at=1, period=Period.HOURLY))
    engine.settle(engine.hold(cost(30)), cost(25))
    engine.void(engine.hold(cost(3)))
    engine.acquire(lease.Demand(cost(2)))
    engine.create(Budget(id=PER_RUN, limit=500, created_at=1, period=Period.RUN))
    engine.post(cost(4), CALL._replace(run="r"))
    engine.hold(cost(40))
    files.close()
    make_organisation(module_database)
    # What the ledger holds of the spend without a hold.
    posts = "SELECT org, source, at, 0 FROM posting WHERE effect = 'unheld'"
    module_database.change(f"INSERT INTO event_key (org, key, occurred_at, revision) {posts}")
    return module_database


def failing(database: Database) -> set[str]:
    return {violation.check for violation in database.verify().violations}


def test_sound_budgets_have_no_violation(sound: Database) -> None:
    report = sound.verify()
    assert failing(sound) == {"keys"}  # a key without its event: only budgets matter here
    checked = {check.name: check.checked for check in report.checks}
    assert (checked["holds"], checked["postings"], checked["windows"]) == (4, 2, 3)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(sound: Database, tmp_path: Path, damage: str) -> None:
    statement, check = DAMAGE[damage]
    damaged = sound.copied(tmp_path / "damaged")
    assert inflict(damaged, statement) > 0
    assert check in failing(damaged)
    damaged.drop()
