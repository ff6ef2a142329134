"""/v1/keys: create, list, revoke and rotate API keys, in the AgentKavach reference's shape.

The raw key is in the answer to a creation and nowhere else: only its hash is stored. A rotation ends the old
key at once, or with `overlap_s` only then, so that clients can be moved one by one.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from bursar.capture import checks
from bursar.core.errors import Denied, NotFound
from bursar.core.ids import id_from_text, new_id, text_from_id
from bursar.core.time import MICROS_PER_SECOND, text_from_micros
from bursar.identity import keys
from bursar.identity.keys import ApiKey, Scope
from bursar.identity.ports import KeyStore
from bursar.web.guard import Guard
from bursar.web.principal import Authenticator, Principal


class NewKey(BaseModel):
    """What a new key is to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What people call it.", min_length=1, max_length=256)
    environment: str = Field(default="prod", description="prod, dev or local: it becomes part of the prefix.")
    product: str = Field(
        default="agentkavach",
        description="agentkavach (ak_…) or aicostguard (acg_live_, acg_test_, cg_): whose clients use it.",
    )
    scopes: list[str] = Field(default=["ingest"], description="ingest, read, budgets, admin.", max_length=8)
    project: str = Field(default="", max_length=256, description="Bind it to one project.")
    agent: str = Field(default="", max_length=256, description="Bind it to one agent.")
    expires_in_days: int | None = Field(
        default=None, ge=1, le=3650, description="Days until it ends by itself."
    )


class Rotation(BaseModel):
    """How a key is to be replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: int = Field(
        default=0, ge=0, le=30 * 86_400, description="Seconds for which the old key goes on working."
    )


_AT_ONCE = Rotation()


def keys_router(
    guard: Guard, key_store: KeyStore, authenticator: Authenticator, clock: Callable[[], int]
) -> APIRouter:
    """Return the routes over `key_store`; a change empties the authenticator's cache at once."""
    router = APIRouter(prefix="/v1/keys", tags=["keys"])

    async def admin_of_all(principal: Annotated[Principal, Depends(guard(Scope.ADMIN))]) -> Principal:
        # A bound key would make itself, or rotate, a key that is not.
        if principal.agent or principal.project:
            raise Denied("a key bound to an agent or a project neither sees nor makes keys; use a free one")
        return principal

    Admin = Annotated[Principal, Depends(admin_of_all)]  # noqa: N806 - a type

    @router.post("", status_code=201, operation_id="keys_create")
    async def create(body: NewKey, principal: Admin) -> dict[str, object]:
        """Mint a key; the raw key is returned only here."""
        raw = keys.generate(body.environment, body.product)
        made = await key_store.create(
            _new(body, principal, raw, clock()), keys.hash_of(raw), actor=principal.actor
        )
        authenticator.forget()
        return {**_body(made, clock()), "raw_key": raw}

    @router.get("", operation_id="keys_list")
    async def list_keys(principal: Admin) -> dict[str, object]:
        """List the organisation's keys, oldest first; never their text."""
        return {"keys": [_body(key, clock()) for key in await key_store.list(principal.org)]}

    @router.delete("/{key_id}", status_code=204, operation_id="keys_revoke")
    async def revoke(key_id: str, principal: Admin) -> Response:
        """Make a key inactive, at once; it stays in the list."""
        found = id_from_text(key_id, field="key_id")
        await key_store.revoke(principal.org, found, at=clock(), actor=principal.actor)
        authenticator.forget()
        return Response(status_code=204)

    @router.post("/{key_id}/rotate", status_code=201, operation_id="keys_rotate")
    async def rotate(key_id: str, principal: Admin, body: Rotation | None = None) -> dict[str, object]:
        """Replace a key by a successor of the same name, scopes, bindings and length of life."""
        found = id_from_text(key_id, field="key_id")
        old = next((key for key in await key_store.list(principal.org) if key.id == found), None)
        if old is None:
            raise NotFound("no such key in this organisation", field="key_id")
        raw = keys.generate(*keys.kind_of(old.prefix))
        made = await key_store.rotate(
            principal.org,
            found,
            _successor(old, raw, clock()),
            keys.hash_of(raw),
            actor=principal.actor,
            overlap_micros=(body or _AT_ONCE).overlap_s * MICROS_PER_SECOND,
        )
        authenticator.forget()
        return {**_body(made, clock()), "raw_key": raw}

    return router


def _new(body: NewKey, principal: Principal, raw: str, now: int) -> ApiKey:
    expires = None if body.expires_in_days is None else now + body.expires_in_days * 86_400_000_000
    return ApiKey(
        org=principal.org,
        number=0,
        id=new_id(),
        name=checks.name(body.name, "name"),
        prefix=keys.shown_prefix(raw),
        scopes=keys.parse_scopes(body.scopes),
        project=checks.optional_name(body.project, "project"),
        agent=checks.optional_name(body.agent, "agent"),
        created_at=now,
        expires_at=expires,
    )


def _successor(old: ApiKey, raw: str, now: int) -> ApiKey:
    life = None if old.expires_at is None else old.expires_at - old.created_at
    return ApiKey(
        org=old.org,
        number=0,
        id=new_id(),
        name=old.name,
        prefix=keys.shown_prefix(raw),
        scopes=old.scopes,
        project=old.project,
        agent=old.agent,
        created_at=now,
        expires_at=None if life is None else now + life,
    )


def _body(key: ApiKey, now: int) -> dict[str, object]:
    return {
        "id": text_from_id("key", key.id),
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        "project": key.project or None,
        "agent": key.agent or None,
        "is_active": key.works_at(now),
        "created_at": text_from_micros(key.created_at),
        "expires_at": _moment(key.expires_at),
        "revoked_at": _moment(key.revoked_at),
        "last_used_at": _moment(key.last_used_at),
        "auth_failures_count": key.auth_failures_count,
        "last_failed_at": _moment(key.last_failed_at),
        "ends_at": _moment(key.ends_at),
        "replaced_by": None if key.replaced_by is None else text_from_id("key", key.replaced_by),
    }


def _moment(micros: int | None) -> str | None:
    return None if micros is None else text_from_micros(micros)
