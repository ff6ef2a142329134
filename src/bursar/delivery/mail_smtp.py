"""Mail through an SMTP server.

TLS is the rule: `starttls` (587) and `tls` (465) both check the server's certificate and refuse to go on
without it; `none` is for a relay on the same machine. A header is made by `EmailMessage`, which refuses
line breaks, so nobody can add one of his own.

Not here: tries and waiting (`mail`).
"""

import asyncio
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid, parseaddr
from importlib import import_module
from typing import NamedTuple

from bursar.delivery.mail import Mail, MailFailed

TIMEOUT_S = 15.0
_PERMANENT = 500


class SmtpServer(NamedTuple):
    """Where and how to hand mail over.

    Attributes:
        security: `starttls`, `tls` or `none`.
        sender: The address that mails come from, with or without a name before it.
    """

    host: str
    port: int
    user: str
    password: str
    security: str
    sender: str


class SmtpMailer:
    """`mail.Mailer` over one SMTP server; a connection for each mail."""

    def __init__(self, server: SmtpServer, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s

    async def send(self, mail: Mail) -> None:
        """Hand the mail to the server.

        Raises:
            MailFailed: It did not take it; the reason has the server's code, not its words, after the
                mail's text was sent.
        """
        # Only here: most processes send nothing. On a thread, so that the first mail holds nobody up.
        await asyncio.to_thread(import_module, "aiosmtplib")
        import aiosmtplib  # noqa: PLC0415
        from aiosmtplib.errors import SMTPConnectError, SMTPException, SMTPResponseException  # noqa: PLC0415

        server = self._server
        try:
            await aiosmtplib.send(
                message_of(mail, server.sender),
                hostname=server.host,
                port=server.port,
                username=server.user or None,
                password=server.password or None,
                use_tls=server.security == "tls",
                start_tls=server.security == "starttls",
                timeout=self._timeout_s,
            )
        except SMTPResponseException as error:
            is_final = error.code >= _PERMANENT
            raise MailFailed(f"the mail server answered {error.code}", is_final=is_final) from None
        except SMTPConnectError as error:
            raise MailFailed(f"the mail server cannot be reached: {error}") from None
        except (SMTPException, OSError) as error:
            raise MailFailed(f"the mail server failed: {type(error).__name__}") from None


def message_of(mail: Mail, sender: str) -> EmailMessage:
    """Return the message.

    Raises:
        MailFailed: An address or the subject cannot stand in a header.
    """
    message = EmailMessage(policy=SMTP)
    name, address = parseaddr(sender)
    try:
        message["From"] = Address(display_name=name, addr_spec=address)
        message["To"] = Address(addr_spec=mail.to)
        message["Subject"] = mail.subject
    except (ValueError, IndexError):
        raise MailFailed("an address cannot stand in a header", is_final=True) from None
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(domain=address.rpartition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message
