"""Every error that may reach a caller, as one tree.

An error has a *kind* (what sort of answer it deserves), a stable `code` that programs
match, and a sentence that says what to do. No HTTP status lives here: each HTTP surface
maps kinds to its own status and body.

    AppError
    ├── InvalidInput         invalid          a field is wrong; `field` names it
    │   ├── InvalidAmount                     money that is no money
    │   └── AmountOverflow                    a sum would leave 64 bits
    ├── NotFound             not_found        no such thing in this organisation
    ├── Conflict             conflict         the state does not allow it
    │   └── IdempotencyConflict               same key, other content
    ├── Unauthenticated      unauthenticated  no or unknown credential
    ├── Denied               denied           known, but not allowed
    ├── TooLarge             too_large        a body, batch or text above its bound
    ├── RateLimited          rate_limited     slow down; `retry_after_s`
    └── Unavailable          unavailable      a part of us cannot work now; try again
        └── StorageFull                       the disk is full
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What sort of answer an error deserves; surfaces map it to their own status."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    OVER_BUDGET = "over_budget"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"


class AppError(Exception):
    """The root: anything we refuse on purpose, with a sentence for the caller."""

    kind = Kind.INVALID
    code = "error"
    more: Mapping[str, object] = MappingProxyType({})
    """What else a program may want to read in the answer."""

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class InvalidInput(AppError):
    """A value is wrong. The caller can cure it: `field` says where, `detail` what to do."""

    code = "invalid_input"


class InvalidAmount(InvalidInput):
    """Money that is negative, not finite, too large or not a number."""

    code = "invalid_amount"


class AmountOverflow(InvalidInput):
    """A ledger sum would leave 64 bits; the event is kept in quarantine, not counted."""

    code = "amount_overflow"


class NotFound(AppError):
    """Nothing of that name or id in the caller's organisation."""

    kind = Kind.NOT_FOUND
    code = "not_found"


class Conflict(AppError):
    """The present state does not allow it; the caller must look before trying again."""

    kind = Kind.CONFLICT
    code = "conflict"


class IdempotencyConflict(Conflict):
    """The same idempotency key came with other content; nothing was changed."""

    code = "idempotency_conflict"


class Unauthenticated(AppError):
    """No credential, or one we do not know."""

    kind = Kind.UNAUTHENTICATED
    code = "unauthenticated"


class Denied(AppError):
    """The credential is known and does not allow this."""

    kind = Kind.DENIED
    code = "denied"


class TooLarge(AppError):
    """A body, batch or text is above its bound, which the sentence names."""

    kind = Kind.TOO_LARGE
    code = "too_large"


class RateLimited(AppError):
    """Too many requests; the same one will do after `retry_after_s` seconds."""

    kind = Kind.RATE_LIMITED
    code = "rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(AppError):
    """A part of the server cannot work now. Nothing was done; try again later."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"


class StorageFull(Unavailable):
    """The disk is full or refuses writes. Reads go on; writes resume by themselves."""

    code = "storage_full"
