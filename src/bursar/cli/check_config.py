"""`bursar check-config`: each setting, where it came from, and every fault at once."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bursar.cli.configuration import config_path, read_config, sentence_of
from bursar.cli.failures import ExitCode, Failure
from bursar.cli.option_names import PREFIX, children, options, variables
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write_json
from bursar.core.addresses import without_password

_PREFIX = f"{PREFIX}_"
_OTHER_VARIABLES = {"BURSAR_CONFIG", "BURSAR_KEY", "BURSAR_READ_KEY"}
"""Variables that are no settings: the file's place, and two that our documentation lets people set."""

_SECRETS = {"metrics_token", "oidc_client_secret", "operator_token", "smtp_password"}


class Setting(NamedTuple):
    """One setting as it stands: its value as text, and flag, environment, file or default."""

    name: str
    value: str
    origin: str
    description: str


class Fault(NamedTuple):
    """What is wrong, where it was said."""

    name: str
    origin: str
    message: str


def check_config(
    context: typer.Context,
    *,
    host: Annotated[str | None, typer.Option(help="As for serve.")] = None,
    port: Annotated[str | None, typer.Option(help="As for serve.")] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    zone: Annotated[str | None, typer.Option(help="As for init.")] = None,
    log_level: Annotated[str | None, typer.Option(help="As for serve.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check flags, environment and file together. Ends with 1 when something is wrong."""
    given = {
        "host": host, "port": port, "data_dir": data_dir, "org": org, "zone": zone, "log_level": log_level,
    }  # fmt: skip
    flags = {
        name: str(value)
        for name, value in given.items()
        if value is not None and not _is_from_environment(context, name)
    }
    faults: list[Fault] = []
    try:
        in_file = read_config()
    except Failure as failure:
        in_file = {}
        faults.append(Fault(str(config_path()), "file", failure.sentence))
    settings = _settings(flags, in_file, faults)
    root = context.find_root().command
    faults += _unknown_tables(in_file, root)
    faults += _unknown_variables(root)
    path = config_path()
    if as_json:
        document = {
            "ok": not faults,
            "file": str(path.resolve()) if path.exists() else None,
            "settings": [setting._asdict() for setting in settings],
            "faults": [fault._asdict() for fault in faults],
        }
        write_json(document)
    else:
        _show(settings, faults, path)
    if faults:
        raise typer.Exit(ExitCode.FAILED)


def _is_from_environment(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "COMMANDLINE"


def _settings(flags: dict[str, str], in_file: Mapping[str, object], faults: list[Fault]) -> list[Setting]:
    """Return every setting as it would be used; what is wrong goes to `faults`."""
    from pydantic import ValidationError  # noqa: PLC0415 - see `main`

    from bursar.settings import Settings  # noqa: PLC0415 - see `main`

    plain = {name: value for name, value in in_file.items() if not isinstance(value, dict)}
    said = {
        name: (origin, str(value))
        for origin, values in (("file", plain), ("environment", _variables()), ("flag", flags))
        for name, value in values.items()
        if name in Settings.model_fields or origin == "file"
    }
    try:
        # Flags last: the settings' own order lets what is passed here win.
        Settings.model_validate(dict(plain) | {name: value for name, (_, value) in said.items()})
    except ValidationError as error:
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            message = (
                "there is no such setting"
                if fault["type"] == "extra_forbidden"
                else sentence_of(str(fault["msg"]))
            )
            faults.append(Fault(name, said.get(name, ("", ""))[0], message))
    return [
        Setting(
            name,
            _shown(name, said[name][1] if name in said else str(field.default)),
            said[name][0] if name in said else "default",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def _shown(name: str, value: str) -> str:
    return "(set)" if name in _SECRETS and value else without_password(value)


def _variables() -> dict[str, str]:
    """Return our variables by the setting's name. An empty one counts as not set."""
    return {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX) and value
    }


def _unknown_tables(in_file: Mapping[str, object], root: object) -> Iterator[Fault]:
    """Yield a fault for each table that is no command, and each key in one that is no option."""
    for name, table in in_file.items():
        if not isinstance(table, dict):
            continue
        command = children(root).get(name)
        if command is None:
            yield Fault(name, "file", "there is no such command")
            continue
        yield from (
            Fault(f"{name}.{fault.name}", "file", fault.message) for fault in _unknown_tables(table, command)
        )
        known = options(command)
        for key, value in table.items():
            if not isinstance(value, dict) and key.replace("-", "_") not in known:
                yield Fault(f"{name}.{key}", "file", "the command has no such option")


def _unknown_variables(root: object) -> Iterator[Fault]:
    from bursar.settings import Settings  # noqa: PLC0415 - see `main`

    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= _OTHER_VARIABLES | set(variables(root))
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
            yield Fault(name, "environment", "there is no such setting or option")


def _show(settings: list[Setting], faults: list[Fault], path: Path) -> None:
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    rows = [[setting.name, setting.value, setting.origin, setting.description] for setting in settings]
    write_table(
        [Column("setting"), Column("value"), Column("from"), Column("what it is", is_wrapped=True)], rows
    )
    say(f"File: {path.resolve()}" if path.exists() else f"File: none ({path} does not exist)")
    for fault in faults:
        say(f"WRONG  {fault.name} ({fault.origin or 'default'}): {fault.message}")
    if not faults:
        say("Everything is in order.")
