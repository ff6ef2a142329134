"""The server's log: lines for people on a terminal, JSON elsewhere, both to standard error.

What looks like a credential of ours, or like the password of an address, is cut from every text
before it is written.
"""

import logging
import re
import sys
from typing import cast

import structlog
import structlog.tracebacks
from structlog.typing import EventDict, Processor, WrappedLogger

from bursar.core.addresses import without_password

# Without the frames' variables: those hold prompts, bodies and foreign keys.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_CREDENTIAL = re.compile(r"\b(ak_(?:prod|dev|local)_|op_)[0-9a-f]{8,}")


def configure_logs(level: str) -> None:
    """Send our records and the libraries' to standard error from `level` on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_terminal = sys.stderr.isatty()
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if is_terminal
        else [_TRACEBACKS, _cut_credentials, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*before, _cut_credentials, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _cut_credentials, *last],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    # What goes well is ours to tell; their warnings and errors still come through.
    for name in ("uvicorn", "alembic"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _cut_credentials(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return cast("EventDict", {name: _without_credentials(value) for name, value in event.items()})


def _without_credentials(value: object) -> object:
    if isinstance(value, str):
        return without_password(_CREDENTIAL.sub(r"\1…", value))
    if isinstance(value, dict):
        return {name: _without_credentials(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return value
