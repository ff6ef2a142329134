"""`bursar doctor`: look at everything a healthy installation needs, and say what to do.

The checks themselves are in `checkup`; here is what a person or a script sees of them.
"""

import typer

from bursar.cli.failures import ExitCode
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import write, write_json

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """Check versions, disk, lock, schema, server, clock, prices and audit. Ends with 1 on a failure."""
    from bursar.cli.checkup import check_up  # noqa: PLC0415 - see `main`

    findings = check_up(data_dir, org)
    is_well = all(finding.state != "fail" for finding in findings)
    if as_json:
        write_json({"ok": is_well, "checks": [finding._asdict() for finding in findings]})
    else:
        from rich.text import Text  # noqa: PLC0415 - see `main`

        from bursar.cli.tables import console  # noqa: PLC0415 - see `main`

        out = console()
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            state = (f"{finding.state:<4}", _STYLES[finding.state])
            out.print(Text.assemble(state, f"  {finding.name:<{width}}  {finding.found}"), soft_wrap=True)
            if finding.what_to_do:
                write(f"      {'':<{width}}  → {finding.what_to_do}")
    if not is_well:
        raise typer.Exit(ExitCode.FAILED)
