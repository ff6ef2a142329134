"""A progress bar on standard error, where that is a terminal; nothing elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""


@contextmanager
def progress(title: str, *, in_bytes: bool = False, with_speed: bool = False) -> Iterator[OnProgress | None]:
    """Show a bar while the inside runs; gives None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.progress import (  # noqa: PLC0415 - only for terminals
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    speed = [TextColumn("{task.fields[speed]}")] if with_speed else []
    columns = (TextColumn("{task.description}"), BarColumn(), amount, *speed, TimeRemainingColumn())
    begun = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=None, speed="")

        def on_progress(done: int, total: int) -> None:
            passed_s = time.monotonic() - begun
            shown.update(task, completed=done, total=total, speed=f"{done / passed_s:,.0f}/s")

        yield on_progress
