"""/v1/auth/tokens: a person's own personal tokens, for programs that act as that person.

Made only from a session: a token that leaked cannot make itself a successor. Its text is
shown once; only its hash is stored. Not here: the operator's tokens for others (`members`).
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import Response

from bursar.capture import checks
from bursar.core.ids import id_from_text, text_from_id
from bursar.core.time import MICROS_PER_DAY, Clock, text_from_micros
from bursar.identity.people import People
from bursar.identity.personal_tokens import PersonalToken
from bursar.web.guard import Guard
from bursar.web.principal import Principal

ID = "tok"
DAYS_MAX = 3_650


class NewPersonalToken(BaseModel):
    """What a token is called, and when it ends."""

    name: str = Field(description="What you call it.")
    expires_in_days: int | None = Field(None, ge=1, le=DAYS_MAX, description="Days until it ends; never.")


def personal_tokens_router(guard: Guard, people: People, clock: Clock) -> APIRouter:
    """Return the routes over `people`."""
    router = APIRouter(prefix="/v1/auth/tokens", tags=["auth"])
    Caller = Annotated[Principal, Depends(guard.user)]  # noqa: N806 - a type
    InSession = Annotated[Principal, Depends(guard.session)]  # noqa: N806 - a type

    @router.post("", status_code=201, operation_id="personal_tokens_create")
    async def create(body: NewPersonalToken, caller: InSession) -> dict[str, object]:
        """Make a personal token. It acts as you in each of your organisations; its text is shown only now."""
        name = checks.name(body.name, "name")
        days = body.expires_in_days
        expires_at = None if days is None else clock() + days * MICROS_PER_DAY
        token, text = await people.create_token(caller.user, name, expires_at=expires_at)
        return {**_body(token), "token": text}

    @router.get("", operation_id="personal_tokens_list")
    async def list_tokens(caller: Caller) -> dict[str, object]:
        """List your personal tokens, oldest first, revoked ones too; never their text."""
        found = await people.tokens.list(caller.user)
        return {"data": [_body(one) for one in found], "has_more": False, "next_cursor": None}

    @router.delete("/{token_id}", status_code=204, operation_id="personal_tokens_revoke")
    async def revoke(token_id: str, caller: Caller) -> Response:
        """End one of your personal tokens, at once. A repeat changes nothing."""
        await people.revoke_token(caller.user, id_from_text(token_id, field="token_id"))
        return Response(status_code=204)

    return router


def _body(token: PersonalToken) -> dict[str, object]:
    times = {
        name: None if at is None else text_from_micros(at)
        for name, at in (
            ("created_at", token.created_at),
            ("expires_at", token.expires_at),
            ("revoked_at", token.revoked_at),
            ("last_used_at", token.last_used_at),
        )
    }
    return {"id": text_from_id(ID, token.id), "name": token.name, "prefix": token.prefix, **times}
