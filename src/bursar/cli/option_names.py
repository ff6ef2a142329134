"""One name for each option everywhere: its flag, its variable, its key in the file.

    --key-column of `import csv`  →  BURSAR_IMPORT_CSV_KEY_COLUMN  →  [import.csv] key_column

The command-line library would name variables and keys after Python's parameters; a person
knows only the flag.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

PREFIX = "BURSAR"


class Parameter(Protocol):
    """An option or argument, as the command-line library knows it."""

    name: str
    opts: list[str]
    envvar: str | list[str] | None
    allow_from_autoenv: bool


class Command(Protocol):
    """A command, or a group with `commands`."""

    params: list[Parameter]


def children(command: object) -> dict[str, Command]:
    """Return the commands of a group by name, none for a command."""
    found: dict[str, Command] = getattr(command, "commands", {})
    return found


def options(command: object) -> dict[str, Parameter]:
    """Return the options of a command by their flag, as `key_column`; arguments are none."""
    parameters = cast("list[Parameter]", getattr(command, "params", []))
    return {
        flag.removeprefix("--").replace("-", "_"): parameter
        for parameter in parameters
        for flag in parameter.opts
        if flag.startswith("--")
    }


def name_variables(command: object, prefix: str = PREFIX) -> None:
    """Give every option of a tree of commands its variable, where it has none of its own."""
    for flag, option in options(command).items():
        if option.envvar is None and option.allow_from_autoenv:
            option.envvar = f"{prefix}_{flag.upper()}"
    for name, child in children(command).items():
        name_variables(child, f"{prefix}_{name.upper().replace('-', '_')}")


def variables(command: object) -> Iterator[str]:
    """Yield the variable of every option of a tree, once `name_variables` has given them."""
    for option in options(command).values():
        if isinstance(option.envvar, str):
            yield option.envvar
    for child in children(command).values():
        yield from variables(child)


def defaults(tables: Mapping[str, object], command: object) -> dict[str, object]:
    """Return the file's tables as the library wants them: keyed by parameter, not by flag.

    What names no command or option is left out; `bursar check-config` tells it.
    """
    own = options(command)
    known: dict[str, object] = {}
    for key, value in tables.items():
        flag = key.replace("-", "_")
        if isinstance(value, dict):
            if key in children(command):
                known[key] = defaults(value, children(command)[key])
        elif flag in own:
            known[own[flag].name] = value
    return known
