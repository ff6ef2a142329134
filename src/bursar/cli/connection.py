"""How a command reaches the ledger: always as HTTP, over a socket or within this process.

    server runs on the data directory  →  its address and the operator's token, over the network
    none runs                          →  open the ledger, build the app, call it in process

One path for both: same routes, same checks, same audit. `serve` leaves its address in
`server.json`; what a dead server left behind is ignored (`address`). A ledger file is opened
by one process at a time; a database that many share is opened beside whoever else has it.
"""

import asyncio
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import httpx2
import msgspec

from bursar.cli.address import (
    OPERATOR_TOKEN_NAME,
    ServerAddress,
    is_listening,
    is_locked,
    running_address,
)
from bursar.cli.configuration import load_settings
from bursar.cli.failures import ExitCode, Failure
from bursar.core.errors import Unavailable
from bursar.settings import Settings
from bursar.storage.sqlite.store import DATABASE_NAME

if TYPE_CHECKING:
    from bursar.wiring import Treasury

LOCK_WAIT_S = 5.0
"""How long to wait for another command, or for a server that is just starting or ending."""

TIMEOUT_S = 120.0
"""Longest wait for one answer; a report over years of a large ledger takes seconds."""

_POLL_S = 0.05
Kind = TypeVar("Kind")
Params = Mapping[str, str | int | list[str]]


class Connection:
    """An open way to the API, acting as the operator for one organisation.

    Use it as a context manager. Answers from status 400 on raise `Failure`.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        runner: asyncio.Runner,
        settings: Settings,
        treasury: "Treasury | None" = None,
        place: str = "in process",
    ) -> None:
        self.settings = settings
        self._client = client
        self._runner = runner
        self._treasury = treasury
        self.place = place
        """The server's address, or "in process"."""

    @property
    def is_in_process(self) -> bool:
        """Whether no server runs and this process holds the ledger."""
        return self._treasury is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._close())
        self._runner.close()

    def act_for(self, org: str) -> None:
        """Speak for another organisation from now on, by its name or id."""
        self._client.headers = httpx2.Headers([*self._client.headers.raw, *_org_header(org).items()])

    def get(self, path: str, params: Params | None = None, *, kind: type[Kind]) -> Kind:
        """Return the answer to a GET as a `kind`."""
        return self.call("GET", path, params=params, kind=kind)

    def post(self, path: str, body: object, *, kind: type[Kind]) -> Kind:
        """Return the answer to a POST of `body` as JSON, as a `kind`."""
        return self.call("POST", path, body=body, kind=kind)

    def call(
        self, method: str, path: str, *, params: Params | None = None, body: object = None, kind: type[Kind]
    ) -> Kind:
        """Return the answer to any request as a `kind`; an empty answer is `None`."""
        answer = self._runner.run(self._send(method, path, params, body))
        if answer.status_code >= 400:  # noqa: PLR2004 - HTTP's own line
            raise Failure.from_status(answer.status_code, _sentence_of(answer))
        if not answer.content:
            return msgspec.convert(None, kind)
        try:
            return msgspec.json.Decoder(kind, float_hook=Decimal).decode(answer.content)
        except msgspec.MsgspecError as error:
            raise Failure(f"{path} gave an answer of another form than expected: {error}") from None

    def text(self, path: str, params: Params | None = None) -> str:
        """Return the answer to a GET as text."""
        answer = self._runner.run(self._send("GET", path, params, None))
        if answer.status_code >= 400:  # noqa: PLR2004 - HTTP's own line
            raise Failure.from_status(answer.status_code, _sentence_of(answer))
        return answer.text

    async def _send(self, method: str, path: str, params: Params | None, body: object) -> httpx2.Response:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            return await self._client.request(method, path, params=params, content=content, headers=headers)
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Failure(
                f"the server at {self.place} does not answer: {reason}", ExitCode.UNREACHABLE
            ) from None

    async def _close(self) -> None:
        await self._client.aclose()
        if self._treasury is not None:
            await self._treasury.stop()


def connect(data_dir: Path | None = None, org: str | None = None, *, may_create: bool = False) -> Connection:
    """Return a way to the ledger of `data_dir` for `org`; None takes the configured ones.

    Raises:
        Failure: There is no ledger and none may be made, or another process holds the
            directory and cannot be spoken to.
    """
    settings = load_settings(data_dir=data_dir, org=org)
    is_said = org is not None or "org" in settings.model_fields_set
    wanted = settings.org if is_said else ""
    if settings.is_shared:
        return _to_shared(settings, wanted)
    return _to_file(settings, wanted, may_create=may_create)


def _to_shared(settings: Settings, org: str) -> Connection:
    """Return a way to a database that several processes may open."""
    address = running_address(settings)
    if address is not None and is_listening(address):
        return _over_network(settings, address, org)
    try:
        # The jobs are for processes that stay.
        return _in_process(settings.model_copy(update={"runs_jobs": False}), org)
    except Unavailable as error:
        raise Failure(error.detail, ExitCode.UNREACHABLE) from None


def _to_file(settings: Settings, org: str, *, may_create: bool) -> Connection:
    """Return a way to a ledger file, which one process has open."""
    if not may_create and not (settings.data_dir / DATABASE_NAME).exists():
        raise Failure(
            f"there is no ledger in {settings.data_dir}",
            ExitCode.NOT_FOUND,
            hint="Name another directory with --data-dir; `bursar init` or `bursar serve` makes a ledger.",
        )
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        if not is_locked(settings.data_dir):
            try:
                return _in_process(settings, org)
            except Unavailable:
                pass  # somebody else was quicker: look again who it is
        elif (address := running_address(settings)) is not None:
            return _over_network(settings, address, org)
        if time.monotonic() > deadline:
            raise Failure(
                f"{settings.data_dir} is in use by another bursar process that takes no requests",
                ExitCode.UNREACHABLE,
                hint="Wait until it has finished, or end it.",
            )
        time.sleep(_POLL_S)


def _in_process(settings: Settings, org: str) -> Connection:
    # Only here: a command that speaks to a server needs nothing of the server itself.
    from bursar.cli.logs import configure_logs  # noqa: PLC0415
    from bursar.wiring import Treasury  # noqa: PLC0415

    # Nobody asked for a server's log, and standard output is the command's own.
    configure_logs("warning")
    treasury = Treasury(settings)
    runner = asyncio.Runner()
    try:
        runner.run(treasury.start())
    except BaseException:
        runner.close()
        raise
    transport = httpx2.ASGITransport(app=treasury.app, client=("127.0.0.1", 0))
    client = _client("http://in-process", treasury.operator_token, org, transport)
    return Connection(client, runner, settings, treasury)


def _over_network(settings: Settings, address: ServerAddress, org: str) -> Connection:
    try:
        token = settings.operator_token or (settings.data_dir / OPERATOR_TOKEN_NAME).read_text().strip()
    except OSError as error:
        raise Failure(
            f"the operator's token in {settings.data_dir} cannot be read: {error.strerror}",
            ExitCode.NO_PERMISSION,
            hint="Run the command as the user who runs the server.",
        ) from None
    return Connection(_client(address.url, token, org, None), asyncio.Runner(), settings, place=address.url)


def _client(
    url: str, token: str, org: str, transport: httpx2.AsyncBaseTransport | None
) -> httpx2.AsyncClient:
    headers = {b"Authorization": f"Bearer {token}".encode()} | (_org_header(org) if org else {})
    # No proxy from the environment: the operator's token goes to this machine only.
    return httpx2.AsyncClient(
        base_url=url, headers=headers, transport=transport, timeout=TIMEOUT_S, trust_env=False
    )


def _org_header(org: str) -> dict[bytes, bytes]:
    # Names may be in any script; as bytes they pass unchanged.
    return {b"X-Bursar-Org": org.encode()}


def _sentence_of(answer: httpx2.Response) -> str:
    """Return the problem document's sentence, or what little another answer says."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    for name in ("detail", "message"):
        if isinstance(body, dict) and isinstance(body.get(name), str):
            return str(body[name])
    return f"the server answered {answer.status_code} {answer.reason_phrase}".strip()
