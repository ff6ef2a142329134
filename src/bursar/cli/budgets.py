"""`bursar budgets …`: limits on what may be spent, over /v1/budgets.

Not here: who holds room now (`holds`), stops of agents (`agents`), what people decide
once a limit is reached (`incidents`).
"""

from typing import Annotated

import msgspec
import typer

from bursar.cli.budget_answers import Alert, Budget, Explained, Hold, Simulation, Window
from bursar.cli.budget_names import BudgetName, budget_id
from bursar.cli.budget_options import (
    ExpiryRule,
    Proposal,
    Thresholds,
    UnpricedRule,
    body_of,
    takes_proposal,
    thresholds_of,
)
from bursar.cli.budget_views import write_budget, write_budgets, write_made
from bursar.cli.failures import ExitCode, Failure
from bursar.cli.moments import instant_of
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json
from bursar.cli.pages import Cursor, Limit, page_of, whole_list
from bursar.cli.window_views import write_alerts, write_explained, write_holders, write_windows

app = typer.Typer(help="Limit what may be spent, and see what is left.", no_args_is_help=True)

RunName = Annotated[str | None, typer.Option("--run", help="Which run, for a budget per run.")]

RECENT_WINDOWS = 5
HOLDERS_SHOWN = 20


@app.command()
@takes_proposal
def create(
    proposal: Proposal, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """Make a budget: `bursar budgets create 1 --agent bot` lets bot spend 1 US dollar a day."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    body = body_of(proposal)
    with connect(data_dir, org) as connection:
        made = connection.post("/v1/budgets", body, kind=msgspec.Raw)
    if as_json:
        write_json(made)
    else:
        write_made(msgspec.json.decode(made, type=Budget))


@app.command("list")
def list_budgets(
    *,
    agent: Annotated[str | None, typer.Option(help="Only budgets of this agent.")] = None,
    project: Annotated[str | None, typer.Option(help="Only budgets of this project.")] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List the budgets with what is spent, held and left in each."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = whole_list(connection, "/v1/budgets", {"agent": agent, "project": project})
    if as_json:
        write_json({"data": found})
    else:
        write_budgets([msgspec.json.decode(one, type=Budget) for one in found])


@app.command()
def show(
    budget: BudgetName, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """Show one budget: its window, its rules, its last windows, and who holds room in it."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found_id = budget_id(connection, budget)
        path = f"/v1/budgets/{found_id}"
        raw = connection.get(path, kind=msgspec.Raw)
        windows = page_of(connection, f"{path}/windows", {"limit": RECENT_WINDOWS})
        holders = page_of(
            connection, "/v1/holds", {"budget": found_id, "state": "open", "limit": HOLDERS_SHOWN}
        )
    if as_json:
        write_json({"budget": raw, "windows": windows.data, "holds": holders.data})
        return
    found = msgspec.json.decode(raw, type=Budget)
    write_budget(found)
    if windows.data:
        write("\nWindows, newest first:")
        write_windows(found, windows.of(Window))
    if holders.data:
        write("\nHeld by:")
        write_holders(found, holders.of(Hold))
    if holders.has_more:
        write(f"More: bursar holds list --state open --budget {found_id}")


@app.command("set")
def set_budget(
    budget: BudgetName,
    *,
    limit: Annotated[str | None, typer.Option(help="The limit from now on, also of this window.")] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="hard or soft: refuse beyond the limit, or only tell.")
    ] = None,
    threshold: Thresholds = None,
    unpriced: UnpricedRule = None,
    on_expiry: ExpiryRule = None,
    enforcement: Annotated[
        str | None, typer.Option(help="required: spend that did not ask first raises an alert; or optional.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="IANA zone in which days begin, from the next window on.")
    ] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Change a budget. The next request that asks meets it as it is then."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    said: dict[str, object] = {
        "limit": limit, "name": name, "mode": mode, "thresholds": thresholds_of(threshold),
        "unpriced": unpriced, "on_expiry": on_expiry, "enforcement": enforcement, "timezone": timezone,
    }  # fmt: skip
    changes = {field: value for field, value in said.items() if value is not None}
    if not changes:
        raise Failure(
            "nothing to change was named",
            ExitCode.USAGE,
            hint="Say what: `bursar budgets set NAME --limit 5`.",
        )
    with connect(data_dir, org) as connection:
        path = f"/v1/budgets/{budget_id(connection, budget)}"
        changed = connection.call("PATCH", path, body=changes, kind=msgspec.Raw)
    if as_json:
        write_json(changed)
    else:
        write_made(msgspec.json.decode(changed, type=Budget))


@app.command()
def delete(
    budget: BudgetName, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False
) -> None:
    """End a budget. What it counted stays in the ledger, and open holds may still settle."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = budget_id(connection, budget)
        connection.call("DELETE", f"/v1/budgets/{found}", kind=type(None))
    if as_json:
        write_json({"id": found, "deleted": True})
    else:
        write(f"Ended {budget} ({found})." if budget != found else f"Ended {found}.")


@app.command()
def windows(
    budget: BudgetName,
    *,
    run: RunName = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List a budget's windows, newest first: limit, spent, held, and what exceeded it."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        path = f"/v1/budgets/{budget_id(connection, budget)}"
        found = connection.get(path, kind=Budget)
        asked = {"run": _run_of(found, run), "limit": limit, "cursor": cursor}
        page = page_of(connection, f"{path}/windows", asked)
    if as_json:
        write_json(page)
    else:
        write_windows(found, page.of(Window))
        page.write_more()


@app.command()
def alerts(
    budget: BudgetName,
    *,
    limit: Limit = 20,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """List what a budget raised: thresholds reached, overruns, spend that did not ask."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        path = f"/v1/budgets/{budget_id(connection, budget)}"
        found = connection.get(path, kind=Budget)
        page = page_of(connection, f"{path}/alerts", {"limit": limit, "cursor": cursor})
    if as_json:
        write_json(page)
    else:
        write_alerts(found, page.of(Alert))
        page.write_more()


@app.command()
def explain(
    budget: BudgetName,
    *,
    at: Annotated[
        str | None,
        typer.Option(help="Day (UTC) or instant, such as that of a refusal.", show_default="now"),
    ] = None,
    run: RunName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Say which holds and calls filled a budget at an instant."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        path = f"/v1/budgets/{budget_id(connection, budget)}"
        found = connection.get(path, kind=Budget)
        asked = {"at": instant_of(at), "run": _run_of(found, run), "limit": limit, "cursor": cursor}
        params = {field: value for field, value in asked.items() if value is not None}
        raw = connection.get(f"{path}/explain", params, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
    else:
        write_explained(found, msgspec.json.decode(raw, type=Explained))


def _run_of(budget: Budget, run: str | None) -> str | None:
    """Return the run whose window is meant.

    Raises:
        Failure: The budget has a window for each run, and none is named.
    """
    own = budget.scope.get("run")
    named = run or (own if isinstance(own, str) else None)
    if named is None and budget.period == "run":
        raise Failure(
            "this budget has a window for each run", ExitCode.USAGE, hint="Name the run with --run."
        )
    return named if budget.period == "run" else run


@app.command()
@takes_proposal
def simulate(
    proposal: Proposal,
    *,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="First day (2026-03-01) or instant.", show_default="30 days back"),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Last day, included, or the instant it ends.", show_default="today"),
    ] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Run past calls through a budget that is not made: who would have been refused, and when."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`
    from bursar.cli.progress import progress  # noqa: PLC0415 - see `main`
    from bursar.cli.simulation_views import write_simulation  # noqa: PLC0415 - see `main`

    said = {"from": from_, "to": to}
    asked = {"budget": body_of(proposal)} | {name: text for name, text in said.items() if text is not None}
    with connect(data_dir, org) as connection, progress("simulating"):
        raw = connection.post("/v1/budgets/simulate", asked, kind=msgspec.Raw)
    if as_json:
        write_json(raw)
    else:
        write_simulation(msgspec.json.decode(raw, type=Simulation))
