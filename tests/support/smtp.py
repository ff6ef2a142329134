"""A real SMTP server on this machine that keeps what it is given.

with running_smtp() as post_office:
    …
    mail = post_office.mails[0]
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Caught(NamedTuple):
    """A mail as it arrived: its envelope, its message, and whether the connection was encrypted."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    is_encrypted: bool

    @property
    def text(self) -> str:
        return str(self.message.get_content())


class PostOffice:
    """What the server does with mails.

    Attributes:
        mails: Those that it took.
        refusals: What it answers to the next ones, first to last; then it takes them.
        logins: Names that people logged in with.
    """

    def __init__(self) -> None:
        self.mails: list[Caught] = []
        self.refusals: list[str] = []
        self.logins: list[str] = []
        self.port = 0

    async def handle_DATA(  # noqa: N802 - the library's name
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = message_from_bytes(content, policy=default)
        self.mails.append(
            Caught(str(envelope.mail_from), list(envelope.rcpt_tos), message, session.ssl is not None)
        )
        return "250 taken"

    def authenticate(
        self,
        _server: SMTP,
        _session: Session,
        _envelope: Envelope,
        _mechanism: str,
        shown: Any,  # noqa: ANN401
    ) -> AuthResult:
        is_right = isinstance(shown, LoginPassword) and shown.password == b"relay password"
        if is_right:
            self.logins.append(shown.login.decode())
        return AuthResult(success=is_right, handled=is_right)


class _AnyPort(Controller):
    """A controller that takes any free port: it asks itself where it listens before it looks."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def running_smtp(tls: ssl.SSLContext | None = None, *, asks_login: bool = False) -> Iterator[PostOffice]:
    """Run a server on a free port of this machine; `tls` lets it offer STARTTLS and insist on it."""
    office = PostOffice()
    controller = _AnyPort(
        office,
        hostname="127.0.0.1",
        port=0,
        tls_context=tls,
        require_starttls=tls is not None,
        authenticator=office.authenticate,
        auth_required=asks_login,
        auth_require_tls=asks_login,
    )
    controller.start()
    try:
        office.port = controller.port
        yield office
    finally:
        controller.stop()
