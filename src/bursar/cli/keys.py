"""`bursar keys create|list|revoke|rotate`: API keys, over /v1/keys."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure
from bursar.cli.options import AsJson, DataDir, OrgName
from bursar.cli.output import say, write, write_json

if TYPE_CHECKING:
    from bursar.cli.connection import Connection

app = typer.Typer(help="Create, list, revoke and rotate API keys.", no_args_is_help=True)

KeyName = Annotated[
    str, typer.Argument(metavar="KEY", help="Its id (key_…), its name or its first characters.")
]


class Key(msgspec.Struct, frozen=True):
    """A key as /v1/keys describes it; `raw_key` only in the answer to its creation."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    project: str | None
    agent: str | None
    is_active: bool
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    auth_failures_count: int
    last_failed_at: str | None
    ends_at: str | None = None
    replaced_by: str | None = None
    raw_key: str | msgspec.UnsetType | None = msgspec.UNSET


class _Keys(msgspec.Struct, frozen=True):
    keys: list[Key]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="ingest, read, budgets or admin; may be repeated.", show_default="ingest"),
    ] = None,
    environment: Annotated[str, typer.Option(help="prod, dev or local; becomes part of the key.")] = "prod",
    product: Annotated[
        str, typer.Option(help="agentkavach (ak_…) or aicostguard (acg_…, cg_…): whose clients use it.")
    ] = "agentkavach",
    project: Annotated[str, typer.Option(help="Bind it to one project.")] = "",
    agent: Annotated[str, typer.Option(help="Bind it to one agent.")] = "",
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it ends.")] = None,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its text is shown once; only its hash is stored."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    body = {
        "name": name,
        "scopes": scope or ["ingest"],
        "environment": environment,
        "product": product,
        "project": project,
        "agent": agent,
        "expires_in_days": expires_in_days,
    }
    with connect(data_dir, org) as connection:
        made = connection.post("/v1/keys", body, kind=Key)
    _tell(made, as_json=as_json)


@app.command("list")
def list_keys(*, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """List the keys, oldest first; never their text."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = connection.get("/v1/keys", kind=_Keys)
    if as_json:
        write_json(found)
        return
    from bursar.cli.tables import Column, write_table  # noqa: PLC0415 - see `main`

    columns = [Column(name) for name in ("name", "key", "scopes", "bound to", "state", "last used", "id")]
    write_table(columns, [_row(key) for key in found.keys], empty="no keys yet")


@app.command()
def revoke(key: KeyName, *, data_dir: DataDir = None, org: OrgName = None, as_json: AsJson = False) -> None:
    """Make a key inactive at once. It stays in the list."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        found = _find(connection, key)
        connection.call("DELETE", f"/v1/keys/{found.id}", kind=type(None))
    if as_json:
        write_json({"id": found.id, "name": found.name, "revoked": True})
    else:
        write(f"Revoked {found.name!r} ({found.prefix}…).")


@app.command()
def rotate(
    key: KeyName,
    *,
    overlap_s: Annotated[
        int, typer.Option(min=0, max=30 * 86_400, help="Seconds for which the old key goes on working.")
    ] = 0,
    data_dir: DataDir = None,
    org: OrgName = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key by its successor: same name, scopes and bindings."""
    from bursar.cli.connection import connect  # noqa: PLC0415 - see `main`

    with connect(data_dir, org) as connection:
        made = connection.post(
            f"/v1/keys/{_find(connection, key).id}/rotate", {"overlap_s": overlap_s}, kind=Key
        )
    _tell(made, as_json=as_json)


def _tell(made: Key, *, as_json: bool) -> None:
    if as_json:
        write_json(made)
        return
    say(f"Key {made.name!r} ({made.id}), scopes {', '.join(made.scopes)}; shown only now:")
    write(str(made.raw_key))


def _find(connection: "Connection", wanted: str) -> Key:
    """Return the one key that `wanted` means; an active one goes before a revoked one.

    Raises:
        Failure: None, or several.
    """
    keys = connection.get("/v1/keys", kind=_Keys).keys
    found = [key for key in keys if wanted in {key.id, key.name} or _is_beginning(wanted, key.prefix)]
    active = [key for key in found if key.is_active] or found
    if not active:
        raise Failure(
            f"there is no key {wanted!r}", ExitCode.NOT_FOUND, hint="`bursar keys list` shows them."
        )
    if len(active) > 1:
        ids = ", ".join(key.id for key in active)
        raise Failure(f"{wanted!r} means several keys: {ids}", ExitCode.USAGE, hint="Name one by its id.")
    return active[0]


def _is_beginning(wanted: str, prefix: str) -> bool:
    # Whoever has the whole key at hand may paste it.
    return wanted.startswith(("ak_", "acg_", "cg_")) and (
        wanted.startswith(prefix) or prefix == wanted.rstrip("…")
    )


def _row(key: Key) -> list[str]:
    bound = [f"{kind} {value}" for kind, value in (("project", key.project), ("agent", key.agent)) if value]
    state = "active" if key.is_active else "revoked"
    ends = min(end for end in (key.expires_at, key.ends_at, "~") if end)
    if key.is_active and ends != "~":
        state = f"until {ends[:10]}"
    used = (key.last_used_at or "never")[:16].replace("T", " ")
    return [key.name, f"{key.prefix}…", " ".join(key.scopes), ", ".join(bound) or "-", state, used, key.id]
