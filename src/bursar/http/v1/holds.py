"""POST /v1/holds and what follows on one: ask before a call, settle it, give it back, prolong it.

    authenticate → read → decode → estimate → desk (or intake) → commit → answer

Plain ASGI callables, reached before the framework: two of these requests stand around every call
an agent makes. A settlement is recorded as an event by the same intake as everything else, so
that the ledger and the budgets change in one commit.

Not here: bodies (`hold_body`, `hold_ends`), answers (`hold_answers`), lists (`holds_read`).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from bursar.budgets.batch import SettledAnswer
from bursar.budgets.budget import Budget
from bursar.budgets.hold import Granted, Hold, HoldResolved, HoldState, Request, checked_request
from bursar.budgets.refusal import Refused
from bursar.budgets.seen import WindowSeen
from bursar.core.errors import AppError, Denied, IdempotencyConflict, InvalidInput, NotFound, TooLarge
from bursar.core.ids import Org, id_from_text, new_id, text_from_id
from bursar.enforcement import administration
from bursar.enforcement.desk import Desk
from bursar.enforcement.estimating import Worst, worst_of_amount, worst_of_usage
from bursar.enforcement.hold_reading import Holder, Holders, HoldReader, KnownBudgets, LatelyHeld
from bursar.enforcement.questions import Authorise, Extend, Void
from bursar.enforcement.seeing import Seeing
from bursar.enforcement.sketches import Sketches
from bursar.http.v1.budget_headers import Headers
from bursar.http.v1.hold_answers import (
    exceeded_problem,
    hold_body,
    money_headers_of,
    refusal_headers,
    stopped_problem,
    with_overruns,
)
from bursar.http.v1.hold_body import Asked, HoldDecoder
from bursar.http.v1.hold_ends import Settlement, deadline_of, reason_of, settlement_of
from bursar.http.v1.ingest import BodyLimits
from bursar.identity.keys import Scope as KeyScope
from bursar.identity.ports import KeyStore
from bursar.ingestion.intake import Intake
from bursar.ingestion.ports import PriceBooks
from bursar.web.edge import respond
from bursar.web.principal import Authenticator, Principal
from bursar.web.problems import problem_of, status_of

BODY_BYTES_MAX = 64 * 1024
"""Bytes of one body; a settlement's attributes are kept to 4 KiB."""

_MICROS_PER_MS = 1_000
_PATH_PARTS = 5


class HoldDoors(NamedTuple):
    """What the holds' routes share.

    Attributes:
        authenticator, limits: Who speaks, and how much.
        desk: Where budgets are asked.
        intake: Where settlements are recorded.
        books, sketches: What calls cost, and how much output they bring.
        reader: Holds as they are now.
        budgets: Rules by id.
        keys: For scopes that name one.
        clock: Microseconds UTC.
    """

    authenticator: Authenticator
    limits: BodyLimits
    desk: Desk
    intake: Intake
    books: PriceBooks
    sketches: Sketches
    reader: HoldReader
    budgets: KnownBudgets
    keys: KeyStore
    clock: Callable[[], int]

    async def read(self, scope: Scope, receive: Receive) -> tuple[Principal, bytes]:
        """Return who sends what.

        Raises:
            AppError: Nobody we know, no right to ingest, or a body that is too large.
        """
        principal = await self.authenticator.principal(scope["headers"])
        principal.require(KeyScope.INGEST)
        raw = await self.limits.read(scope, receive)
        if len(raw) > BODY_BYTES_MAX:
            raise TooLarge(f"the body has at most {BODY_BYTES_MAX} bytes")
        return principal, raw

    async def worst(self, org: Org, asked: Asked) -> Worst:
        """Return what to set aside for a call, by prices and by what calls like it have brought."""
        deadline_ms = -(-asked.deadline // _MICROS_PER_MS)
        if asked.usage is None:
            return worst_of_amount(asked.amount_nusd or 0, deadline_ms=deadline_ms)
        sketch = None
        if asked.max_output_tokens is None:
            sketch = await self.sketches.of(org, asked.call.agent, asked.call.model)
        return worst_of_usage(
            await self.books.of(org),
            asked.usage,
            max_output_tokens=asked.max_output_tokens,
            ceiling_nusd=asked.ceiling_nusd,
            deadline_ms=deadline_ms,
            sketch=sketch,
        )


class Refusals:
    """Refusals of budgets as answers, with who holds their room."""

    def __init__(self, doors: HoldDoors) -> None:
        self._doors = doors
        self._held = LatelyHeld(doors.reader)

    async def exceeded(self, principal: Principal, refused: Refused) -> tuple[dict[str, object], Headers]:
        """Return the body and the headers of a 402, as far as the caller may see others."""
        doors = self._doors
        terms = await doors.budgets.one(principal.org, refused.window.budget)
        if terms is None:
            raise AssertionError("a budget that refuses has a row")
        holders = await self._held.of(principal.org, refused)
        now = doors.clock()
        body = exceeded_problem(
            refused,
            terms.budget,
            _as_seen_by(principal, holders),
            keys=await self._key_texts(principal.org, terms.budget),
            now=now,
        )
        return body, refusal_headers(refused, terms.budget, now)

    async def _key_texts(self, org: Org, budget: Budget) -> dict[int, str]:
        if not budget.scope.api_key:
            return {}
        return {key.number: text_from_id("key", key.id) for key in await self._doors.keys.list(org)}


class HoldsEndpoint:
    """POST /v1/holds."""

    def __init__(self, doors: HoldDoors) -> None:
        self._doors = doors
        self._decoder = HoldDecoder()
        self._refusals = Refusals(doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 201 a new hold, 200 the one that stands, 402 no room, 403 stopped."""
        doors = self._doors
        principal, raw = await doors.read(scope, receive)
        now = doors.clock()
        asked = self._decoder.decode(raw, key_header(scope["headers"]), principal, now)
        request = _request(asked, await doors.worst(principal.org, asked))
        answer, windows = await doors.desk.ask(principal.org, Seeing(Authorise(request)))
        if isinstance(answer, Granted):
            budgets = await doors.budgets.of(principal.org, windows)
            body = hold_body(answer.hold, windows, budgets, key_text=asked.key_text)
            status = 200 if answer.is_repeat else 201
            await respond(send, status, body, headers=money_headers_of(windows, budgets, now))
        elif isinstance(answer, Refused):
            body, headers = await self._refusals.exceeded(principal, answer)
            await respond(send, 402, body, headers=headers)
        else:
            await respond(send, 403, stopped_problem(answer))


class HoldEndpoint:
    """POST /v1/holds/{id}/settle, /void and /extend."""

    def __init__(self, doors: HoldDoors) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; 200, or 409 with the state of a hold that has ended otherwise."""
        principal, raw = await self._doors.read(scope, receive)
        hold_id, verb = _named(scope["path"])
        try:
            if verb == "settle":
                header = key_header(scope["headers"])
                body, windows = await self._settle(principal, hold_id, raw, header)
            elif verb == "void":
                body, windows = await self._void(principal, hold_id, raw)
            else:
                body, windows = await self._extend(principal, hold_id, raw)
        except NotFound:
            raise _unknown() from None
        except HoldResolved as error:
            await respond(send, status_of(error), _resolved(error, error.hold))
            return
        budgets = await self._doors.budgets.of(principal.org, windows)
        await respond(send, 200, body, headers=money_headers_of(windows, budgets, self._doors.clock()))

    async def _settle(
        self, principal: Principal, hold_id: bytes, raw: bytes, header: str | None
    ) -> tuple[dict[str, object], tuple[WindowSeen, ...]]:
        doors = self._doors
        settlement = settlement_of(
            raw, hold_id, header_key=header, api_key=principal.api_key, now=doors.clock()
        )
        await self._check_whose(principal, hold_id, settlement)
        receipt = await doors.intake.record(principal.org, [settlement.event])
        if receipt.conflicts:
            await self._refuse_difference(principal.org, hold_id)
        if receipt.quarantined:
            raise InvalidInput("a total would leave 64 bits; kept in quarantine", field="cost_usd")
        answer = receipt.settled.get(0)
        if isinstance(answer, AppError):
            raise answer
        if not isinstance(answer, SettledAnswer):
            raise _unknown()
        hold, outcome, windows = answer
        budgets = await doors.budgets.of(principal.org, windows)
        body = hold_body(hold, windows, budgets)
        body["outcome"] = outcome
        body["event_id"] = text_from_id("evt", settlement.event.key or hold.key)
        with_overruns(body, hold, windows, budgets)
        return body, windows

    async def _check_whose(self, principal: Principal, hold_id: bytes, settlement: Settlement) -> None:
        """Refuse a hold of another agent or project than the key's, or than the caller says.

        A hold's names never change, so looking before the commit is enough.
        """
        agent, project = settlement.agent, settlement.project
        if not (principal.agent or principal.project or agent or project):
            return
        shown = await self._doors.reader.get(principal.org, hold_id)
        call = None if shown is None else shown.hold.call
        if (
            call is None
            or principal.agent not in {"", call.agent}
            or principal.project not in {"", call.project}
        ):
            raise _unknown()
        for field, said, own in (("agent", agent, call.agent), ("project", project, call.project)):
            if said not in {"", own}:
                raise InvalidInput(f"{field} must be the hold's, {own!r}, or be left out", field=field)

    async def _refuse_difference(self, org: Org, hold_id: bytes) -> None:
        """Refuse a repeated key with other figures, and say how the hold stands."""
        shown = await self._doors.reader.get(org, hold_id)
        sentence = "this idempotency key was used for other figures; nothing was changed"
        if shown is None:
            raise IdempotencyConflict(sentence, field="idempotency_key")
        raise _Different(sentence, shown.hold)

    async def _void(
        self, principal: Principal, hold_id: bytes, raw: bytes
    ) -> tuple[dict[str, object], tuple[WindowSeen, ...]]:
        reason = reason_of(raw)
        is_admin = KeyScope.ADMIN in principal.scopes
        question = Seeing(
            Void(hold_id, by_operator=is_admin), principal.agent, principal.project, refuses_leases=True
        )
        desk = self._doors.desk
        try:
            if reason or is_admin:
                void = partial(
                    administration.void_hold, question=question, actor=principal.actor, reason=reason
                )
                hold, windows = await desk.change(principal.org, void)
            else:
                hold, windows = await desk.ask(principal.org, question)
        except HoldResolved as error:
            if error.hold.state is HoldState.SUSPENSE and not is_admin:
                raise Denied("the hold is in suspense: only a key with the scope admin may void it") from None
            raise
        return await self._shown(principal.org, hold, windows)

    async def _extend(
        self, principal: Principal, hold_id: bytes, raw: bytes
    ) -> tuple[dict[str, object], tuple[WindowSeen, ...]]:
        question = Seeing(
            Extend(hold_id, deadline_of(raw)), principal.agent, principal.project, refuses_leases=True
        )
        hold, windows = await self._doors.desk.ask(principal.org, question)
        return await self._shown(principal.org, hold, windows)

    async def _shown(
        self, org: Org, hold: Hold, windows: tuple[WindowSeen, ...]
    ) -> tuple[dict[str, object], tuple[WindowSeen, ...]]:
        return hold_body(hold, windows, await self._doors.budgets.of(org, windows)), windows


class _Different(HoldResolved):
    """The same key with other figures; the hold stands as it was."""

    code = "idempotency_conflict"

    def __init__(self, sentence: str, hold: Hold) -> None:
        super().__init__(hold)
        self.detail = sentence
        self.field = "idempotency_key"


def key_header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the `Idempotency-Key` header, None where there is none."""
    for name, value in headers:
        if name == b"idempotency-key":
            return value.decode("latin-1").strip()
    return None


def _request(asked: Asked, worst: Worst) -> Request:
    amounts = worst.amounts
    if asked.depth or asked.fingerprint:
        amounts = amounts._replace(depth=asked.depth, fingerprint=asked.fingerprint)
    return checked_request(
        Request(
            hold_id=new_id(),
            key=asked.key,
            digest=asked.digest,
            call=asked.call,
            amounts=amounts,
            max_output_tokens=worst.max_output_tokens,
            sized=worst.sized,
            allow_smaller=asked.allow_smaller,
            min_output_tokens=asked.min_output_tokens,
            deadline=asked.deadline,
            grace=asked.grace,
            knows_tokens=asked.usage is not None,
        )
    )


def _named(path: str) -> tuple[bytes, str]:
    """Return the hold and what to do with it.

    Raises:
        NotFound: No such route, or nothing that could be a hold's id.
    """
    parts = path.split("/")
    if len(parts) != _PATH_PARTS or parts[-1] not in {"settle", "void", "extend"}:
        raise NotFound("no such route: a hold takes settle, void and extend")
    try:
        return id_from_text(parts[-2]), parts[-1]
    except InvalidInput:
        raise _unknown() from None


def _unknown() -> NotFound:
    return NotFound("there is no such hold; nothing was changed", field="hold_id")


def _resolved(error: HoldResolved, hold: Hold) -> dict[str, object]:
    """Return the 409 body: how the hold stands."""
    shown = hold_body(hold, (), {})
    del shown["windows"], shown["budget_state"]
    return {**problem_of(error), "hold": shown}


def _as_seen_by(principal: Principal, holders: Holders) -> Holders:
    """Return holders as a caller may see them: a key of one agent or project learns no other's name."""
    if not (principal.agent or principal.project):
        return holders
    own = [one for one in holders.agents if one.agent == principal.agent]
    others = [one for one in holders.agents if one.agent != principal.agent]
    if others:
        own.append(Holder("", sum(one.amount for one in others), sum(one.holds for one in others)))
    return holders._replace(agents=own)
