"""Every kind of damage is found on either engine; a good ledger with all that can happen gives nothing."""

import json
from pathlib import Path

import pytest
from audited_ledger import AuditedLedger, event, fill
from ledger_damage import DAMAGE, OF_ENGINE, first_row

from bursar.ledger.verification import CHECKS, Findings, VerifyReport, Violation
from bursar.settings import Settings
from bursar.wiring import verify_ledger
from support.damage import inflict
from support.engines import Database


def failing(report: VerifyReport) -> set[str]:
    return {check.name for check in report.checks if check.violations}


def test_a_good_ledger_gives_nothing(good_ledger: Database) -> None:
    report = good_ledger.verify()
    assert report.violations == ()
    assert report.ok
    assert [check.name for check in report.checks if not check.checked] == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(damage: str, copy: Database) -> None:
    sql, check = DAMAGE[damage]
    _find(copy, first_row(sql), check)


def test_damage_to_the_structure_is_found(good_ledger: Database, tmp_path: Path) -> None:
    for damage, (sql, check) in OF_ENGINE[good_ledger.kind].items():
        copy = good_ledger.copied(tmp_path / damage)
        _find(copy, sql, check)
        copy.drop()


def _find(copy: Database, sql: str, check: str) -> None:
    assert inflict(copy, sql) > 0
    report = copy.verify()
    assert check in failing(report)
    assert not report.ok


def test_every_check_is_tried() -> None:
    tried = [*DAMAGE.values(), *(one for kinds in OF_ENGINE.values() for one in kinds.values())]
    assert {check for _, check in tried} == set(CHECKS)


def test_a_violation_says_where_and_both_figures(copy: Database) -> None:
    inflict(copy, "UPDATE agent_total SET input_tokens = 5 WHERE org = 1 AND agent = 2")
    (violation,) = copy.verify().violations
    assert violation[:4] == ("totals", 1, "agent_total", "agent=2: input_tokens")
    assert (int(violation.expected) > 100, violation.found) == (True, "5")


def test_the_report_lists_the_first_and_counts_all() -> None:
    findings = Findings(shown_max=2)
    for number in range(5):
        findings.add(Violation("keys", 1, "event", str(number), "x", "y"))
    report = findings.report()
    assert [violation.key for violation in report.violations] == ["0", "1"]
    assert report.violations_count == 5
    assert json.loads(json.dumps(report.to_json()))["violations_count"] == 5


def test_progress_ends_at_the_number_of_events(good_ledger: Database) -> None:
    seen: list[tuple[int, int]] = []
    settings = Settings(data_dir=good_ledger.folder, **good_ledger.settings)
    assert verify_ledger(settings, lambda done, total: seen.append((done, total))).ok
    assert seen[-1][0] == seen[-1][1] > 100


def test_a_running_server_is_proved_with_what_it_has_committed(ledger: AuditedLedger) -> None:
    fill(ledger)
    report = ledger.verify()
    assert report.ok
    ledger.post([event("one more")])
    keys = list(CHECKS).index("keys")
    assert ledger.verify().checks[keys].checked == report.checks[keys].checked + 1
