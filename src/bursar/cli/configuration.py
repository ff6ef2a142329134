"""Settings from flags, environment and file, every fault told at once.

The file is `bursar.toml` in the working directory, or the one that `BURSAR_CONFIG` names.
Its plain keys are the settings of `settings.Settings`; a table is named after a command
and holds defaults of that command's options.
"""

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from bursar.cli.failures import ExitCode, Failure

if TYPE_CHECKING:
    from bursar.settings import Settings

CONFIG_VARIABLE = "BURSAR_CONFIG"
CONFIG_NAME = "bursar.toml"
# The same as in `settings`, whose import every command would pay for.


def config_path() -> Path:
    """Return the configuration file's path, whether it exists or not."""
    return Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_NAME)


def read_config() -> dict[str, object]:
    """Return what the configuration file holds, nothing when there is none.

    Raises:
        Failure: It is named by the environment and not there, or is no TOML.
    """
    path = config_path()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get(CONFIG_VARIABLE):
            raise Failure(f"{CONFIG_VARIABLE} names {path}, which does not exist", ExitCode.USAGE) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Failure(f"{path} cannot be read: {error}", ExitCode.USAGE) from None


def command_tables() -> dict[str, object]:
    """Return the file's tables: defaults of commands' options, by command and option."""
    return {name: value for name, value in read_config().items() if isinstance(value, dict)}


def sentence_of(message: str) -> str:
    """Return what the settings' library says of a value, without its word for our own checks."""
    return message.removeprefix("Value error, ")


def load_settings(**flags: object) -> "Settings":
    """Return the settings; a flag that is None was not given.

    Raises:
        Failure: One or more values are wrong; the sentence names each.
    """
    # Only here: the import takes longer than all of `bursar --help`.
    from pydantic import ValidationError  # noqa: PLC0415

    from bursar.settings import Settings  # noqa: PLC0415

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type] # checked there
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {sentence_of(str(fault['msg']))}"
            for fault in error.errors()
        ]
        raise Failure(
            "; ".join(faults), ExitCode.USAGE, hint="`bursar check-config` shows them all."
        ) from None
