"""Stops: kill, pause and resume an agent, a project or the organisation, and list what is stopped.

Once a kill has answered, no authorise behind it commits; the answer says how long a client that
holds a lease may go on. A stop that a budget causes ends with its window or a raise, never here.
"""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from bursar.budgets.clock import Now
from bursar.budgets.gate import Gate, GateKey, GateKind, GateState, Stop
from bursar.capture import checks
from bursar.core.errors import InvalidInput, NotFound
from bursar.core.ids import text_from_id
from bursar.core.time import MICROS_PER_SECOND, text_from_micros
from bursar.enforcement import administration
from bursar.enforcement.reading import GateSight, Seen
from bursar.enforcement.stops import StandingStop, standing_stop, stop_by
from bursar.http.v1.budget_answers import ID, KeyTexts, moment, scope_body
from bursar.http.v1.budget_forms import documented_body, fields_of, text_field
from bursar.http.v1.budgets import PAGE_MAX, BudgetRoutes, ListParams, page_of, require_whole, sight_of
from bursar.identity.keys import Scope
from bursar.web.guard import Guard
from bursar.web.principal import Principal

REASON_LENGTH_MAX: Final = 500
CONNECTED_SECONDS: Final = 2
"""A client with a lease hears of a stop by its next heartbeat, a second away, and a round trip."""
CUT_OFF_SECONDS: Final = 15
"""One that cannot be reached stops when its lease ends; this is how long a lease lasts by default."""

_STATUS = {GateState.ALIVE: "active", GateState.PAUSED: "paused", GateState.KILLED: "killed"}
_ORGANISATION = GateKey(GateKind.ORGANISATION, "")
_BODY = documented_body({"reason": {"type": "string", "maxLength": REASON_LENGTH_MAX}})
_DONE = {
    GateState.KILLED: ("kill", "Stop {} for good, until a person resumes it; repeating it changes nothing."),
    GateState.PAUSED: ("pause", "Stop {} for a while, until a person resumes it."),
    GateState.ALIVE: ("resume", "End every stop of {} but those that a budget causes."),
}

Name = Annotated[str, Path(min_length=1, max_length=checks.NAME_LENGTH_MAX)]


def gates_router(guard: Guard, routes: BudgetRoutes) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["gates"])
    for state in _DONE:
        _add_of(router, guard, routes, GateKind.AGENT, state)
        _add_of(router, guard, routes, GateKind.PROJECT, state)
    _add_of_all(router, guard, routes, GateState.KILLED)
    _add_of_all(router, guard, routes, GateState.ALIVE)

    @router.get("/gates", operation_id="gates_list")
    async def list_gates(
        principal: Annotated[Principal, Depends(guard(Scope.READ))], params: Annotated[ListParams, Query()]
    ) -> dict[str, object]:
        """List what is stopped, by kind and name; beside it, on the first page, what budgets stop."""
        found = await routes.reader.gates(
            principal.org, after=_place_of(params.cursor), most=params.limit + 1
        )
        page = found[: params.limit]
        following = ":".join(page[-1].key) if len(found) > params.limit else None
        stopping: list[Seen] = []
        if params.cursor is None:
            stopping = list(
                await routes.reader.stopping(
                    principal.org, sight_of(principal), routes.now().at, most=PAGE_MAX
                )
            )
        keys = await routes.key_texts(principal.org, [seen.budget.scope for seen in stopping])
        data = [_gate_body(gate) for gate in page if _may_see(principal, gate.key)]
        return page_of(data, following) | {"stopped_by_budgets": [_stopper(seen, keys) for seen in stopping]}

    return router


def _add_of(router: APIRouter, guard: Guard, routes: BudgetRoutes, kind: GateKind, state: GateState) -> None:
    """Add the route that brings agents, or projects, into one state."""
    verb, sentence = _DONE[state]

    @router.post(
        f"/{kind.value}s/{{name:path}}/{verb}",
        operation_id=f"{kind.value}s_{verb}",
        openapi_extra=_BODY,
        description=sentence.format(f"one {kind.value}"),
        summary=f"{verb} one {kind.value}".capitalize(),
    )
    async def change(
        principal: Annotated[Principal, Depends(guard(Scope.ADMIN))], name: Name, request: Request
    ) -> dict[str, object]:
        require_whole(principal)
        key = GateKey(kind, checks.name(name, "name"))
        if not await routes.reader.knows(principal.org, key):
            raise unknown(key)
        return {kind.value: name} | await _changed(routes, principal, key, state, request)


def _add_of_all(router: APIRouter, guard: Guard, routes: BudgetRoutes, state: GateState) -> None:
    """Add the route that brings the whole organisation into one state."""
    verb, sentence = _DONE[state]

    @router.post(
        f"/agents/{verb}-all",
        operation_id=f"agents_{verb}_all",
        openapi_extra=_BODY,
        description=sentence.format("the whole organisation"),
        summary=f"{verb} the whole organisation".capitalize(),
    )
    async def change(
        principal: Annotated[Principal, Depends(guard(Scope.ADMIN))], request: Request
    ) -> dict[str, object]:
        require_whole(principal)
        changed = await _changed(routes, principal, _ORGANISATION, state, request)
        return {"agents": await routes.reader.agents(principal.org)} | changed


async def _changed(
    routes: BudgetRoutes, principal: Principal, key: GateKey, state: GateState, request: Request
) -> dict[str, object]:
    """Change a gate, and say what stands there now. Unknown fields do not keep a stop from being set."""
    reason = text_field(await fields_of(request), "reason", length_max=REASON_LENGTH_MAX)
    gate, is_changed = await routes.desk.change(
        principal.org,
        partial(administration.set_gate, key=key, state=state, actor=principal.actor, reason=reason),
    )
    now = routes.now()
    sight = await routes.reader.gate(principal.org, key, now.at)
    stop = standing_stop(sight, key)
    return {
        **status_body(stop),
        "changed": is_changed,
        "epoch": gate.epoch,
        "reason": reason,
        "actor": principal.actor,
        "open_holds": sight.open_holds,
        "bound": {
            "holds_granted_after": 0,
            "lease_connected_s": CONNECTED_SECONDS,
            "lease_cut_off_s": _cut_off_seconds(sight, now),
        },
    }


def status_body(stop: StandingStop | None) -> dict[str, object]:
    """Return `status`, and the stop that stands: at a gate, or by a budget until it resets."""
    if stop is None:
        return {"status": _STATUS[GateState.ALIVE], "stopped_by": None}
    stopped, gate, since, budget = stop
    where: dict[str, object] = {}
    if budget is not None:
        resets_at = None if stopped.resume_at is None else moment(stopped.resume_at)
        where = {"budget_id": text_from_id(ID, budget.id), "budget": budget.name, "resets_at": resets_at}
    elif gate is not None and since is not None:
        where = {"kind": gate.kind.value, "name": gate.name, "since": text_from_micros(since)}
    owner = {"owner": stopped.owner.value, "reason": stopped.reason, "actor": stopped.actor or None}
    return {"status": _STATUS[stopped.state], "stopped_by": owner | where}


def unknown(key: GateKey) -> NotFound:
    """Return the refusal of a name that nobody has used."""
    kind = key.kind.value
    return NotFound(
        f"no {kind} of that name has made a call, has a budget or was stopped here; check its spelling",
        field="name",
    )


def _cut_off_seconds(sight: GateSight, now: Now) -> int:
    """Return after how many seconds the last client that cannot be reached has stopped."""
    if sight.leased_until is None:
        return CUT_OFF_SECONDS
    left = sight.leased_until - now.trusted
    return max(CUT_OFF_SECONDS, -(-left // MICROS_PER_SECOND))


def _gate_body(gate: Gate) -> dict[str, object]:
    return {
        "kind": gate.key.kind.value,
        "name": gate.key.name,
        "status": _STATUS[gate.state],
        "epoch": gate.epoch,
        "stops": [_stop_body(stop) for stop in gate.stops],
    }


def _stop_body(stop: Stop) -> dict[str, object]:
    return {
        "owner": stop.owner.value,
        "status": _STATUS[stop.state],
        "since": text_from_micros(stop.at),
        "reason": stop.reason,
        "actor": stop.actor or None,
    }


def _stopper(seen: Seen, keys: KeyTexts) -> dict[str, object]:
    return {"scope": scope_body(seen.budget.scope, keys), **status_body(stop_by(seen))}


def _may_see(principal: Principal, key: GateKey) -> bool:
    """Tell whether a gate stands before a caller: a bound key does not see those of others."""
    if not (principal.agent or principal.project):
        return True
    own = {(GateKind.AGENT, principal.agent), (GateKind.PROJECT, principal.project)}
    return key.kind is GateKind.ORGANISATION or key in own


def _place_of(cursor: str | None) -> tuple[str, str]:
    """Return kind and name of the last gate of the page before.

    Raises:
        InvalidInput: Not a cursor of ours.
    """
    if cursor is None:
        return ("", "")
    kind, colon, name = cursor.partition(":")
    if not colon or kind not in set(GateKind):
        raise InvalidInput("cursor must be the next_cursor of an earlier answer", field="cursor")
    return kind, name
