"""`bursar agents …`: stop agents at once and let them go on, over /v1/agents and /v1/gates.

Not here: stops that follow from a budget, which end with its window or a raise (`incidents`).
"""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from bursar.cli.budget_answers import Budget, Scope, scope_text
from bursar.cli.budget_views import write_budgets
from bursar.cli.failures import ExitCode, Failure
from bursar.cli.moments import moment_text
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json
from bursar.cli.pages import Cursor, Limit

app = typer.Typer(help="Stop agents at once, and let them go on.", no_args_is_help=True)

AgentName = Annotated[str, typer.Argument(metavar="NAME", help="The agent as its calls name it.")]
IsProject = Annotated[
    bool, typer.Option("--project", help="NAME is a project: everything that is booked on it.")
]
Reason = Annotated[str, typer.Option(help="Why; whoever is refused reads it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Bound(msgspec.Struct, frozen=True):
    """How long a stop takes to reach whoever spends: what the server promises."""

    holds_granted_after: int
    lease_connected_s: int
    lease_cut_off_s: int


class StoppedBy(msgspec.Struct, frozen=True):
    """What stands in the way: a gate since a time, or a budget until it resets."""

    owner: str
    reason: str | None
    actor: str | None
    kind: str | None = None
    name: str | None = None
    since: str | None = None
    budget_id: str | None = None
    budget: str | None = None
    resets_at: str | None = None

    @property
    def text(self) -> str:
        """Return who stopped it, until when, and why."""
        if self.owner == "budget":
            until = f"until {moment_text(self.resets_at)} UTC" if self.resets_at else "without an end"
            return f"by the budget {self.budget or self.budget_id}, {until}"
        who = self.actor or self.owner
        where = f"the whole {self.kind}, " if self.kind == "organisation" else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{where}by {who} since {moment_text(self.since)} UTC{why}"


class Changed(msgspec.Struct, frozen=True):
    """What stands once a stop was set or ended."""

    status: str
    stopped_by: StoppedBy | None
    changed: bool
    open_holds: int
    bound: Bound
    agents: int | None = None


class _Stood(msgspec.Struct, frozen=True):
    status: str
    stopped_by: StoppedBy | None
    budgets: list[Budget]


class _Stop(msgspec.Struct, frozen=True):
    owner: str
    status: str
    since: str
    reason: str | None
    actor: str | None


class _Gate(msgspec.Struct, frozen=True):
    kind: str
    name: str
    stops: list[_Stop]


class _StoppedByBudget(msgspec.Struct, frozen=True):
    scope: Scope
    status: str
    stopped_by: StoppedBy


class _Gates(msgspec.Struct, frozen=True):
    data: list[_Gate]
    has_more: bool
    next_cursor: str | None
    stopped_by_budgets: list[_StoppedByBudget] = []


@app.command()
def stopped(
    *,
    limit: Limit = 50,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List what is stopped, by whom, since when and why; also what a budget stops."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
    with connect(data_dir, org) as connection:
        raw = connection.get("/v1/gates", params, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    found = msgspec.json.decode(raw, type=_Gates)
    rows = [_gate_row(gate, stop) for gate in found.data for stop in gate.stops]
    rows += [_budget_row(one) for one in found.stopped_by_budgets]
    columns = [*map(Column, ("what", "status", "by", "since", "until")), Column("reason", is_wrapped=True)]
    write_table(columns, rows, empty="nothing is stopped")
    if found.has_more:
        write(f"More: --cursor {found.next_cursor}")


def _gate_row(gate: _Gate, stop: _Stop) -> list[str]:
    is_by_person = stop.owner in {"manual", "guard"}
    ends = "a person resumes it" if is_by_person else f"the {stop.owner} or a person resumes it"
    what = f"{gate.kind} {gate.name}".rstrip()
    since = moment_text(stop.since, to_seconds=True)
    return [what, stop.status, stop.actor or stop.owner, since, ends, stop.reason or "-"]


def _budget_row(one: _StoppedByBudget) -> list[str]:
    by = one.stopped_by
    ends = moment_text(by.resets_at) if by.resets_at else "its limit is raised"
    budget = f"budget {by.budget or by.budget_id}"
    return [scope_text(one.scope), one.status, budget, "-", ends, by.reason or "-"]


@app.command()
def kill(
    name: AgentName,
    *,
    reason: Reason = "",
    project: IsProject = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Stop an agent for good: it gets no hold from now on, until a person resumes it."""
    _change(_path(name, "kill", is_project=project), name, reason, data_dir, org, as_json=as_json)


@app.command()
def pause(
    name: AgentName,
    *,
    reason: Reason = "",
    project: IsProject = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Stop an agent for a while, until a person resumes it; its program is told that it is paused."""
    _change(_path(name, "pause", is_project=project), name, reason, data_dir, org, as_json=as_json)


@app.command()
def resume(
    name: AgentName,
    *,
    reason: Reason = "",
    project: IsProject = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Let an agent go on that a person or a guard stopped."""
    _change(_path(name, "resume", is_project=project), name, reason, data_dir, org, as_json=as_json)


@app.command("kill-all")
def kill_all(
    *,
    reason: Reason = "",
    yes: Yes = False,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Stop every agent of the organisation at once, new ones too."""
    _confirm(yes=yes)
    _change("/v1/agents/kill-all", "every agent", reason, data_dir, org, as_json=as_json)


@app.command("resume-all")
def resume_all(
    *, reason: Reason = "", data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """End a kill of all; agents that were stopped one by one stay stopped."""
    _change("/v1/agents/resume-all", "every agent", reason, data_dir, org, as_json=as_json)


@app.command()
def budgets(
    name: AgentName, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """List the budgets that an agent's calls meet, as the agent itself may read them."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        raw = connection.get(f"/v1/agents/{quote(name, safe='')}/budgets", kind=msgspec.Raw)
    if as_json:
        write_json(raw)
        return
    found = msgspec.json.decode(raw, type=_Stood)
    why = "" if found.stopped_by is None else f" {found.stopped_by.text}"
    write(f"{name} is {found.status}{why}.")
    write_budgets(found.budgets)


def _path(name: str, verb: str, *, is_project: bool) -> str:
    return f"/v1/{'projects' if is_project else 'agents'}/{quote(name, safe='')}/{verb}"


def _confirm(*, yes: bool) -> None:
    """Ask before every agent is stopped.

    Raises:
        Failure: Nobody is there to answer, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure("this stops every agent; say --yes where nobody can be asked", ExitCode.USAGE)
    if not typer.confirm("Stop every agent of this organisation?", err=True):
        raise Failure("nothing was stopped")


def _change(
    path: str, whom: str, reason: str, data_dir: Path | None, org: str | None, *, as_json: bool
) -> None:
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        raw = connection.post(path, {"reason": reason} if reason else {}, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
    else:
        _tell(whom, msgspec.json.decode(raw, type=Changed), is_stop="resume" not in path.rpartition("/")[2])


def _tell(whom: str, now: Changed, *, is_stop: bool) -> None:
    if now.agents is not None:
        whom = f"every agent ({now.agents:,} so far)"
    if not is_stop:
        if now.stopped_by is None:
            write(f"{whom} is active{'' if now.changed else ' already'}: holds are granted again.")
        else:
            write(f"{whom} is still {now.status}, {now.stopped_by.text}.")
        return
    write(f"{whom} is {now.status}{'' if now.changed else ' already'}: no hold is granted from now on.")
    if now.open_holds:
        holds = "1 hold is" if now.open_holds == 1 else f"{now.open_holds:,} holds are"
        write(f"  {holds} open: those calls are under way and may settle.")
    write(
        f"  Whoever spends a lease starts no new call after {now.bound.lease_connected_s} s, "
        f"cut off from the server after {now.bound.lease_cut_off_s} s."
    )
