"""What ends a command early: one sentence for a person, one number for a script.

| exit code | means |
|---|---|
| 0 | done |
| 1 | the command failed |
| 2 | it was called wrongly |
| 3 | no such thing |
| 4 | no or not enough permission |
| 6 | the server cannot be reached |
| 130 | interrupted |

5 is kept for "over budget".
"""

from enum import IntEnum

from bursar.core.errors import AppError, Kind


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_PERMISSION = 4
    UNREACHABLE = 6
    INTERRUPTED = 130


_BY_STATUS = {
    401: ExitCode.NO_PERMISSION,
    403: ExitCode.NO_PERMISSION,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.USAGE,
    422: ExitCode.USAGE,
    503: ExitCode.UNREACHABLE,
}
_BY_KIND = {
    Kind.INVALID: ExitCode.USAGE,
    Kind.NOT_FOUND: ExitCode.NOT_FOUND,
    Kind.UNAUTHENTICATED: ExitCode.NO_PERMISSION,
    Kind.DENIED: ExitCode.NO_PERMISSION,
    Kind.UNAVAILABLE: ExitCode.UNREACHABLE,
}


class Failure(Exception):
    """A command cannot go on. `hint` says what to do, where `sentence` does not."""

    def __init__(
        self, sentence: str, exit_code: ExitCode = ExitCode.FAILED, *, hint: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code
        self.hint = hint

    @classmethod
    def from_status(cls, status: int, sentence: str) -> "Failure":
        """Return the failure that an HTTP answer of `status` means."""
        return cls(sentence, _BY_STATUS.get(status, ExitCode.FAILED))

    @classmethod
    def from_error(cls, error: AppError) -> "Failure":
        """Return the failure that one of our own errors means."""
        return cls(error.detail, _BY_KIND.get(error.kind, ExitCode.FAILED))
