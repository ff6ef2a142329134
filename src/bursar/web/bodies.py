"""Request bodies, read and inflated within bounds before anything is parsed.

Both the bytes on the wire and the inflated bytes are capped, so a gzip bomb costs no more
than the cap. Chunked bodies have no length to check up front and are counted as they come.
"""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from isal import isal_zlib
from starlette.exceptions import HTTPException

from bursar.core.errors import InvalidInput, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GZIP_WINDOW = 31
_BOUND = "bursar.body_bound"
STRANGER_BYTES_MAX = 64 * 1024
"""Bytes of a body that the framework reads, and parses, before a route knows who is speaking."""

GZIP_MEMBERS_MAX = 16
"""Parts of one gzip body: what follows a part is copied, so thousands of empty ones would cost
time in the square of the body."""

_IsalError = cast("type[Exception]", isal_zlib.error)


class Disconnected(Exception):
    """The client went away before its body was complete; there is nobody to answer."""


async def read_body(receive: Receive, encoding: bytes, *, wire_bytes_max: int, bytes_max: int) -> bytes:
    """Return the whole body, inflated.

    Args:
        receive: The ASGI receive channel.
        encoding: The `Content-Encoding` header, lower case, empty for none.
        wire_bytes_max: Cap of what is read from the socket.
        bytes_max: Cap of what it inflates to.

    Raises:
        TooLarge: One of the caps is passed; nothing beyond it was kept.
        InvalidInput: Not the encoding it says, or one we do not read.
        Disconnected: The client left in the middle.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > wire_bytes_max:
                raise TooLarge(f"the body is larger than {wire_bytes_max} bytes; send smaller batches")
        body = b"".join(parts)
    elif message["type"] == "http.disconnect":
        raise Disconnected
    if len(body) > wire_bytes_max:
        raise TooLarge(f"the body is larger than {wire_bytes_max} bytes; send smaller batches")
    if not encoding or encoding == b"identity":
        if len(body) > bytes_max:
            raise TooLarge(f"the body is larger than {bytes_max} bytes; send smaller batches")
        return body
    if encoding not in {b"gzip", b"x-gzip"}:
        raise InvalidInput("Content-Encoding must be gzip or absent", field="Content-Encoding")
    return gunzip(body, bytes_max)


def bound_for_strangers(scope: Scope, receive: Receive) -> Receive:
    """Return `receive`, refusing a body beyond `STRANGER_BYTES_MAX` until `lift_bound` is called.

    The framework reads the bodies it knows the form of before it asks for a credential; the
    routes that read for themselves do so afterwards, within their own bounds.
    """
    size = 0
    scope[_BOUND] = STRANGER_BYTES_MAX

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        bound = scope[_BOUND]
        if bound is not None and size > bound:
            # The one kind of error that the framework lets through while it reads a body.
            raise HTTPException(413, f"the body is larger than {bound} bytes")
        return message

    return bounded


def lift_bound(scope: Scope) -> None:
    """Let a request whose sender is known have the body that its route allows."""
    scope[_BOUND] = None


def gunzip(body: bytes, bytes_max: int) -> bytes:
    """Return the inflated `body`, which may have several gzip members.

    Raises:
        TooLarge: It inflates to more than `bytes_max`.
        InvalidInput: It is not complete gzip.
    """
    parts: list[bytes] = []
    room = bytes_max + 1
    rest = body
    while rest:
        if len(parts) == GZIP_MEMBERS_MAX:
            raise InvalidInput(f"the body has more than {GZIP_MEMBERS_MAX} gzip members; send one")
        inflater = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            part = inflater.decompress(rest, max_length=room)
        except (zlib.error, _IsalError) as error:
            raise InvalidInput(f"the body is not valid gzip: {error}") from None
        parts.append(part)
        room -= len(part)
        if room <= 0:
            raise TooLarge(f"the body inflates to more than {bytes_max} bytes; send smaller batches")
        if not inflater.eof:
            raise InvalidInput("the gzip body is cut off; send it again whole")
        rest = inflater.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)
