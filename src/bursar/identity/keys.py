"""API keys: their text, their checksum, what they may do.

A key is `ak_{env}_` and 64 hex digits: 56 random ones (224 bits) and 8 of CRC-32 over all
that stands before them, so that garbage is refused without a look-up and a scanner can
tell a real key from a look-alike. Only SHA-256 of the whole text is stored: a fast hash is
right for a secret of more than 112 random bits. Keys are found by hash, never by prefix.
"""

import hashlib
import re
import secrets
import zlib
from enum import StrEnum

import msgspec

from bursar.core.errors import InvalidInput
from bursar.core.ids import Org

ENVIRONMENTS = ("prod", "dev", "local")
PRODUCTS = ("agentkavach", "aicostguard")
_RANDOM_HEX = 56
_PREFIX_SHOWN = 8
_OURS = re.compile(r"ak_(?:prod|dev|local)_[0-9a-f]{64}")
_FOREIGN = {"prod": "acg_live_", "dev": "acg_test_", "local": "cg_"}
_ANY_KEY = re.compile(r"[\x21-\x7e]{1,256}")


class Scope(StrEnum):
    """What a key or a role may do. `admin` includes the others; `budgets` writes budgets and prices."""

    INGEST = "ingest"
    READ = "read"
    BUDGETS = "budgets"
    ADMIN = "admin"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A stored key, never its text.

    Attributes:
        number: The row number that events carry.
        prefix: The first characters, to recognise it by.
        project, agent: What it is bound to; empty for anything.
        expires_at, revoked_at, last_used_at, last_failed_at: Microseconds UTC or None.
        auth_failures_count: Uses after it was revoked or had expired.
        replaced_by: The id of the key that a rotation made in its place.
        ends_at: When it stops working because of that; None when it stopped at once, or never was rotated.
        org_deleted_at: Since when its organisation is deleted; told by `find` only.
    """

    org: Org
    number: int
    id: bytes
    name: str
    prefix: str
    scopes: frozenset[Scope]
    project: str = ""
    agent: str = ""
    is_active: bool = True
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    auth_failures_count: int = 0
    last_failed_at: int | None = None
    replaced_by: bytes | None = None
    ends_at: int | None = None
    org_deleted_at: int | None = None

    def works_at(self, now: int) -> bool:
        """Whether it may be used at `now`: not revoked, not expired, no successor alone in its place."""
        ends = [end for end in (self.expires_at, self.ends_at) if end is not None]
        return self.is_active and (not ends or now < min(ends))


def generate(environment: str, product: str = "agentkavach") -> str:
    """Return a fresh key's text, with the prefix that a product's clients expect.

    `agentkavach` gives `ak_{env}_`; `aicostguard` gives what its clients look for: `acg_live_` in prod,
    `acg_test_` in dev, `cg_` in local.

    Raises:
        InvalidInput: `environment` is not prod, dev or local, or `product` none of those two.
    """
    if environment not in ENVIRONMENTS:
        raise InvalidInput(f"environment must be one of {', '.join(ENVIRONMENTS)}", field="environment")
    if product not in PRODUCTS:
        raise InvalidInput(f"product must be one of {', '.join(PRODUCTS)}", field="product")
    prefix = f"ak_{environment}_" if product == "agentkavach" else _FOREIGN[environment]
    body = prefix + secrets.token_hex(_RANDOM_HEX // 2)
    return body + _checksum(body)


def kind_of(prefix: str) -> tuple[str, str]:
    """Return the environment and the product of a stored key, by the beginning of its text.

    A key that was brought along with a prefix of its own counts as AgentKavach's in prod.
    """
    for environment, foreign in _FOREIGN.items():
        if prefix.startswith(foreign):
            return environment, "aicostguard"
        if prefix.startswith(f"ak_{environment}_"):
            return environment, "agentkavach"
    return "prod", "agentkavach"


def plausible(text: str) -> bool:
    """Whether `text` can be a key at all: our own form with its checksum, or a foreign one.

    Foreign prefixes (`cg_`, `acg_live_`, …) carry no checksum and are looked up.
    """
    if not text.startswith("ak_"):
        return bool(_ANY_KEY.fullmatch(text))
    return bool(_OURS.fullmatch(text)) and _checksum(text[:-8]) == text[-8:]


def hash_of(text: str) -> bytes:
    """Return what is stored in place of the key: SHA-256 of its text, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def shown_prefix(text: str) -> str:
    """Return the part that lists show: everything up to the eighth digit."""
    head, _, digits = text.rpartition("_")
    return f"{head}_{digits[:_PREFIX_SHOWN]}"


def parse_scopes(texts: list[str]) -> frozenset[Scope]:
    """Return the scopes that `texts` name.

    Raises:
        InvalidInput: None given, or one that does not exist.
    """
    try:
        scopes = frozenset(Scope(text) for text in texts)
    except ValueError:
        raise InvalidInput(f"scopes must be among {', '.join(Scope)}", field="scopes") from None
    if not scopes:
        raise InvalidInput("scopes must name at least one of " + ", ".join(Scope), field="scopes")
    return scopes


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
