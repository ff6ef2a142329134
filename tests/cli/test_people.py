"""`bursar orgs`, `bursar users` and `bursar audit`, with a server and without one."""

import json
from pathlib import Path

from support.program import bursar


def test_an_organisation_is_changed_deleted_and_restored(ledger: Path) -> None:
    at = ("--data-dir", ledger, "--json")
    quotas = ("--events-per-day", "1000", "--burst-per-s", "5", "--max-agents", "3")
    after = bursar("orgs", "set", "default", "--status", "paused", "--plan", "team", *quotas, *at).document
    assert (after["subscription_status"], after["plan"]) == ("paused", "team")
    assert (after["events_per_day"], after["burst_per_s"], after["max_agents"]) == (1000, 5, 3)
    free = bursar("orgs", "set", "default", "--burst-per-s", "0", "--timezone", "Europe/Berlin", *at).document
    assert (free["burst_per_s"], free["max_agents"], free["zone"]) == (None, 3, "Europe/Berlin")
    assert bursar("orgs", "delete", "default", *at).document["deleted_at"]
    assert bursar("orgs", "list", *at).document["data"][0]["deleted_at"]
    assert bursar("orgs", "restore", "default", *at).document["deleted_at"] is None
    assert bursar("keys", "list", *at).code == 0


def test_what_cannot_be_set_changes_nothing(alone: Path) -> None:
    at = ("--data-dir", alone)
    for wrong in (["--status", "resting"], ["--timezone", "Europe/Atlantis"], ["--burst-per-s", "-1"], []):
        assert bursar("orgs", "set", "default", *wrong, *at).code == 2
    assert bursar("orgs", "set", "nobody", "--plan", "x", *at).code == 3
    (org,) = bursar("orgs", "list", *at, "--json").document["data"]
    assert (org["subscription_status"], org["plan"]) == ("active", "self_hosted")


def test_people_are_invited_and_every_change_is_logged(ledger: Path) -> None:
    at = ("--data-dir", ledger)
    owner = ("--email", "o@x.example", "--password", "correct horse battery")
    assert bursar("init", *at, "--org", "people", *owner).code == 0
    here = (*at, "--org", "people")
    invited = bursar("users", "invite", "b@x.example", "--role", "finance", *here)
    assert invited.out.startswith("inv_")
    assert bursar("users", "set-role", "o@x.example", "admin", *here).code == 1
    done = bursar("users", "reset-password", "o@x.example", "--password", "another long one", *here)
    assert "new password" in done.out
    assert bursar("users", "disable", "o@x.example", *here).code == 1
    assert bursar("users", "invite", "b@x.example", "--role", "king", *here).code == 2
    logged = bursar("audit", "list", *here, "--json").document["data"]
    assert {entry["action"] for entry in logged} >= {"invitation.create", "user.set_password", "member.add"}
    exported = bursar("audit", "export", "--format", "jsonl", *here).out.splitlines()
    assert [json.loads(line) for line in exported] == logged
    assert "another long one" not in str(logged)
