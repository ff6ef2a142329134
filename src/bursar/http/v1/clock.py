"""`POST /v1/clock/confirm`: the operator says that a sudden step of the server's clock is right.

Until then hard budgets must fit the window of the time before the step as well (`budgets.clock`).
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends

from bursar.web.guard import Guard

Confirm = Callable[[], Awaitable[bool]]
"""Believes the clock, in every process; tells whether this one was in doubt."""


def clock_router(guard: Guard, confirm: Confirm) -> APIRouter:
    """Return the route; it asks for the operator's token."""
    router = APIRouter(prefix="/v1/clock", tags=["system"], dependencies=[Depends(guard.operator)])

    @router.post("/confirm", operation_id="clock_confirm")
    async def confirm_clock() -> dict[str, object]:
        """Believe the server's clock after a step that looked like an error; `changed` says if it did."""
        return {"clock": "ok", "changed": await confirm()}

    return router
