"""Mail on its way: a bounded queue in front of whatever really sends.

    post(Mail)  →  MailQueue  →  Mailer.send        a server (`mail_smtp`), or the console when there is none

A request hands its mail over and answers at once: neither the answer nor its time tells whether there was a
mail to send. What cannot be sent is tried again and then logged, by its kind and address: never its text,
which holds a code.

Not here: what mails say (`mail_texts`), SMTP (`mail_smtp`).
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

WAITING_MAX = 1_000
"""Mails under way; beyond that a new one is dropped and logged, and its reader asks for another code."""

SENDING_MAX = 4
"""Connections to the mail server at a time."""

RETRY_DELAYS_S = (2.0, 15.0)
"""Waits before the second and third try; a code lives for ten minutes."""

START_DELAY_S = 0.05
"""How long a mail waits at first: the answer of the request that made it is out by then, and its time is the
same as that of a request that made none."""

STOP_S = 5.0

_log = structlog.get_logger()


class Mail(NamedTuple):
    """One mail in plain text.

    Attributes:
        kind: What the log calls it, such as `verify`.
        to: One address.
        subject: One line, without secrets.
        text: The body.
    """

    kind: str
    to: str
    subject: str
    text: str


class MailFailed(Exception):
    """It was not sent. `reason` holds nothing of the mail's text; `is_final` says that a retry is in vain."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


class Mailer(Protocol):
    """Sends one mail."""

    async def send(self, mail: Mail) -> None:
        """Send it.

        Raises:
            MailFailed: It was not sent.
        """
        ...


class ConsoleMailer:
    """Prints mails where the server prints: nobody is locked out for want of a mail server.

    Args:
        write: Takes the text; runs on a thread, since a full pipe would hold it up.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    async def send(self, mail: Mail) -> None:
        """Print it between two lines."""
        lines = [
            "--- mail (no SMTP server is configured, so it is printed here) ---",
            f"To: {mail.to}",
            f"Subject: {mail.subject}",
            "",
            mail.text.rstrip(),
            "--- end of mail ---",
        ]
        await asyncio.to_thread(self._write, "\n".join(lines))


class MailQueue:
    """Mails that are being sent.

    Args:
        mailer: What sends them.
        retry_delays_s: Seconds before each further try.
    """

    def __init__(self, mailer: Mailer, *, retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S) -> None:
        self._mailer = mailer
        self._retry_delays_s = retry_delays_s
        self._sending = asyncio.Semaphore(SENDING_MAX)
        self._under_way: set[asyncio.Task[None]] = set()

    def post(self, mail: Mail) -> None:
        """Take a mail and return at once."""
        if len(self._under_way) >= WAITING_MAX:
            _log.error("mail_dropped", kind=mail.kind, to=mail.to, reason="too many mails are waiting")
            return
        task = asyncio.get_running_loop().create_task(self._deliver(mail))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def drain(self) -> None:
        """Wait until every mail is sent or given up."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def stop(self, within_s: float = STOP_S) -> None:
        """Give what is under way a moment, then end it."""
        if not self._under_way:
            return
        _done, left = await asyncio.wait(self._under_way, timeout=within_s)
        for task in left:
            task.cancel()
        if left:
            _log.error("mail_dropped", count=len(left), reason="the server ended")
            await asyncio.wait(left)

    async def _deliver(self, mail: Mail) -> None:
        await asyncio.sleep(START_DELAY_S)
        for delay_s in (*self._retry_delays_s, None):
            try:
                async with self._sending:
                    await self._mailer.send(mail)
            except MailFailed as error:
                is_last = error.is_final or delay_s is None
                _log.error(
                    "mail_failed", kind=mail.kind, to=mail.to, reason=error.reason, will_retry=not is_last
                )
                if error.is_final or delay_s is None:
                    return
                await asyncio.sleep(delay_s)
            except Exception as error:  # noqa: BLE001 - a defect must not end the queue; its text may hold the mail
                _log.error("mail_failed", kind=mail.kind, to=mail.to, reason=type(error).__name__)
                return
            else:
                return
