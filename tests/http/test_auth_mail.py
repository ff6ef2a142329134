"""Mails on their way: through a real SMTP server, in trouble, and never with their code in the log."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bursar.delivery import mail_texts
from bursar.delivery.mail import ConsoleMailer, Mail, MailFailed, MailQueue
from bursar.delivery.mail_smtp import SmtpMailer, SmtpServer, message_of
from support.desk import open_desk
from support.smtp import running_smtp

MAIL = mail_texts.verification("alice@example.com", "123456")


def mailer(port: int, security: str = "none", **fields: str) -> SmtpMailer:
    server = SmtpServer("localhost", port, "", "", security, "Bursar <bursar@example.com>")
    return SmtpMailer(server._replace(**fields), timeout_s=3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that nobody trusts, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
    done = subprocess.run(
        [*command, "/CN=localhost", "-keyout", "-", "-addext", "subjectAltName=DNS:localhost"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path.write_text(done.stdout)
    return path


@pytest.fixture
def trusting(certificate: Path) -> Iterator[None]:
    """Let this process trust the certificate, as an operator's machine would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        yield


def offering(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_mail_arrives_as_it_was_written() -> None:
    with running_smtp() as office:
        await mailer(office.port).send(MAIL._replace(text="Dots:\n.\n..\nÄußerst 1.00 €\n", subject="Grüße"))
    (caught,) = office.mails
    assert (caught.sender, caught.recipients) == ("bursar@example.com", ["alice@example.com"])
    assert caught.text.replace("\r\n", "\n") == "Dots:\n.\n..\nÄußerst 1.00 €\n"
    assert caught.message["subject"] == "Grüße"
    assert caught.message["from"] == "Bursar <bursar@example.com>"
    assert caught.message["auto-submitted"] == "auto-generated"
    assert caught.message["message-id"].endswith("@example.com>")


async def test_starttls_encrypts_and_logs_in(certificate: Path, trusting: None) -> None:
    with running_smtp(offering(certificate), asks_login=True) as office:
        await mailer(office.port, "starttls", user="relay", password="relay password").send(MAIL)
        with pytest.raises(MailFailed, match="535") as refused:
            await mailer(office.port, "starttls", user="relay", password="wrong").send(MAIL)
    assert refused.value.is_final
    assert office.logins == ["relay"]
    assert [caught.is_encrypted for caught in office.mails] == [True]


async def test_a_certificate_that_nobody_trusts_ends_the_talk_before_the_mail(certificate: Path) -> None:
    with running_smtp(offering(certificate)) as office, pytest.raises(MailFailed):
        await mailer(office.port, "starttls").send(MAIL)
    assert office.mails == []


async def test_a_server_without_tls_gets_no_mail_where_tls_is_asked_for() -> None:
    with running_smtp() as office:
        for security in ("starttls", "tls"):
            with pytest.raises(MailFailed):
                await mailer(office.port, security).send(MAIL)
    assert office.mails == []


@pytest.mark.parametrize(
    "mail",
    [
        MAIL._replace(to="alice@example.com\r\nBcc: eve@example.com"),
        MAIL._replace(to="alice@example.com\nX: y"),
        MAIL._replace(subject="Hello\r\nBcc: eve@example.com"),
        MAIL._replace(to="alice@example.com, eve@example.com"),
        MAIL._replace(to=""),
    ],
)
def test_nobody_adds_a_header_or_a_reader(mail: Mail) -> None:
    with pytest.raises(MailFailed):
        message_of(mail, "bursar@example.com")


def test_what_strangers_chose_stands_on_one_short_line() -> None:
    mail = mail_texts.invitation(
        "bob@example.com", "Acme\r\n\r\nCode: 1\x1b[2J" + "x" * 99, "member", "inv_1", ""
    )
    (line,) = [text for text in mail.text.splitlines() if "Organisation:" in text]
    assert line.split(":", 1)[1].strip().startswith("Acme Code: 1 [2Jxxx")
    assert len(line) < 80
    assert "\x1b" not in mail.text


async def test_a_passing_failure_is_tried_again_and_its_log_has_no_code() -> None:
    with running_smtp() as office, capture_logs() as logs:
        office.refusals = ["451 123456 is a code, come later", "421 busy"]
        queue = MailQueue(mailer(office.port), retry_delays_s=(0.01, 0.01))
        queue.post(MAIL)
        await queue.drain()
    assert len(office.mails) == 1
    assert [entry["event"] for entry in logs] == ["mail_failed", "mail_failed"]
    assert "123456" not in str(logs)
    assert logs[0]["to"] == "alice@example.com"


async def test_a_refusal_for_good_is_not_tried_again() -> None:
    with running_smtp() as office, capture_logs() as logs:
        office.refusals = ["550 no such user"]
        queue = MailQueue(mailer(office.port), retry_delays_s=(60.0,))
        queue.post(MAIL)
        await queue.drain()
    assert (office.mails, office.refusals) == ([], [])
    assert [entry["will_retry"] for entry in logs] == [False]


async def test_a_server_that_is_away_delays_nobody() -> None:
    with running_smtp() as office:
        port = office.port
    queue = MailQueue(mailer(port), retry_delays_s=())
    with capture_logs() as logs:
        begun = time.perf_counter()
        queue.post(MAIL)
        assert time.perf_counter() - begun < 0.05
        await queue.drain()
    assert [entry["kind"] for entry in logs] == ["verify"]


async def test_the_queue_is_bounded_and_ends_with_the_server() -> None:
    class Stuck:
        async def send(self, mail: Mail) -> None:
            await asyncio.sleep(len(mail.text) + 60)

    queue = MailQueue(Stuck())
    with capture_logs() as logs:
        for _ in range(1_001):
            queue.post(MAIL)
        assert [entry["event"] for entry in logs] == ["mail_dropped"]
        await queue.stop(within_s=0.01)
    assert logs[-1]["count"] == 1_000


async def test_the_console_gets_the_whole_mail() -> None:
    printed: list[str] = []
    await ConsoleMailer(printed.append).send(MAIL)
    assert "123456" in printed[0]
    assert "To: alice@example.com" in printed[0]


def test_a_sign_up_is_mailed_by_the_configured_server_and_prints_nothing(tmp_path: Path) -> None:
    with running_smtp() as office:
        smtp = {"smtp_host": "127.0.0.1", "smtp_port": office.port, "smtp_security": "none"}
        with open_desk(tmp_path / "data", **smtp, mail_from="bursar@example.com") as desk:
            body = {"email": "alice@example.com", "password": "correct horse", "org_name": "acme"}
            assert desk.post("/v1/auth/register", body, key="").status_code == 201
            desk.run(desk.treasury.doors.mails.drain())
            assert desk.printed == []
    (caught,) = office.mails
    assert caught.recipients == ["alice@example.com"]
    assert caught.message["subject"] == "Your Bursar verification code"
