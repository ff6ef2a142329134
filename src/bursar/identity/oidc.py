"""Sign-in with an OpenID Connect issuer: authorization code with PKCE.

    begin   →  the issuer's address, and an Attempt     state, nonce, S256 challenge
    finish  ←  Attempt and code                         token endpoint, ID token → IssuerClaims

The issuer is found by discovery and must call itself by the configured name. An ID token counts only with a
signature by one of the issuer's published keys in an asymmetric algorithm, our client id as its audience, the
attempt's nonce, and not after its end.

Sources: OpenID Connect Core 1.0 §3.1.3.7, Discovery 1.0 §4.3, RFC 7636, RFC 9207.

Not here: whose account it is (`sign_in`), cookies and routes.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from bursar.core.errors import Unauthenticated, Unavailable
from bursar.core.time import MICROS_PER_SECOND
from bursar.identity import oidc_attempts
from bursar.identity.oidc_attempts import Attempt
from bursar.identity.sign_in import IssuerClaims

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import AsyncOAuth2Client
    from joserfc.jwk import Key, KeySet

TIMEOUT_S = 10.0
LEEWAY_S = 60
"""How far the issuer's clock may be from ours."""

KEPT_S = 3_600.0
KEYS_AGAIN_S = 30.0
"""At most so often an unknown key id makes us ask for the issuer's keys again."""

REST_S = 2.0
"""How long an issuer that cannot be reached is left alone: strangers may ask us as often as they like."""

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
SCOPE = "openid email profile"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Metadata(msgspec.Struct, frozen=True):
    """What we need of a discovery document."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Keys(msgspec.Struct, frozen=True):
    keys: list[dict[str, str | list[str]]]


class OidcClient(NamedTuple):
    """What the issuer knows us by; an empty secret means a public client."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str


class Oidc:
    """One issuer.

    Args:
        client: Who we are there.
        clock: Microseconds UTC.
    """

    def __init__(self, client: OidcClient, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock
        self._metadata: _Metadata | None = None
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._asked_again_at = -KEYS_AGAIN_S
        self._failed_at = -REST_S

    def now(self) -> int:
        """Return the time in microseconds UTC."""
        return self._clock()

    async def begin(self, return_to: str) -> tuple[str, Attempt]:
        """Return the address to send the browser to, and the attempt to keep in it.

        Raises:
            Unavailable: The issuer cannot be reached, or is not who it should be.
        """
        metadata = await self._discovered()
        attempt = oidc_attempts.begin(return_to, self._clock())
        async with self._session(metadata) as session:
            url, _state = session.create_authorization_url(
                metadata.authorization_endpoint,
                state=attempt.state,
                code_verifier=attempt.verifier,
                nonce=attempt.nonce,
            )
        return str(url), attempt

    async def finish(self, attempt: Attempt, code: str, *, issuer: str = "") -> IssuerClaims:
        """Exchange the code and return what the issuer says, checked.

        Args:
            attempt: Of the same browser.
            code: From the callback.
            issuer: The callback's `iss`, where it has one.

        Raises:
            Unauthenticated: The code or the token does not hold.
            Unavailable: The issuer cannot be reached.
        """
        metadata = await self._discovered()
        if issuer != metadata.issuer and (issuer or metadata.authorization_response_iss_parameter_supported):
            raise _refusal("the answer is another issuer's")
        token = await self._exchanged(metadata, attempt, code)
        claims = await self._checked(metadata, attempt, token)
        # Some issuers keep one of the two out of the token.
        is_whole = claims.get("email") and "email_verified" in claims
        if not is_whole and metadata.userinfo_endpoint:
            claims = claims | await self._user_info(metadata, token, claims)
        return _claims_of(metadata.issuer, claims)

    async def _exchanged(self, metadata: _Metadata, attempt: Attempt, code: str) -> Mapping[str, object]:
        from authlib.integrations.base_client import (  # noqa: PLC0415 - see `_session`
            OAuthError,
        )
        from httpx2 import HTTPError  # noqa: PLC0415 - see `_session`

        try:
            async with self._session(metadata) as session:
                token: Mapping[str, object] = await session.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=attempt.verifier,
                )
        except OAuthError:
            raise _refusal("the issuer does not take the code") from None
        except (HTTPError, ValueError):
            raise Unavailable("the sign-in issuer cannot be reached; try again") from None
        return token

    async def _checked(
        self, metadata: _Metadata, attempt: Attempt, token: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the claims of the ID token, all of them checked."""
        from authlib.oidc.core import (  # noqa: PLC0415 - see `_session`
            CodeIDToken,
        )
        from joserfc.errors import JoseError  # noqa: PLC0415 - see `_session`

        try:
            header, payload = await self._verified(metadata, str(token.get("id_token") or ""))
            claims = CodeIDToken(
                payload,
                header,
                {
                    "iss": {"essential": True, "value": metadata.issuer},
                    "aud": {"essential": True, "value": self._client.client_id},
                    "nonce": {"essential": True, "value": attempt.nonce},
                },
                {
                    "nonce": attempt.nonce,
                    "client_id": self._client.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=self._clock() // MICROS_PER_SECOND, leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError):
            raise _refusal("the issuer's token does not hold") from None
        return dict(claims)

    async def _verified(self, metadata: _Metadata, text: str) -> tuple[dict[str, object], dict[str, object]]:
        """Return header and payload of a token that one of the issuer's keys signed."""
        from joserfc import jwt  # noqa: PLC0415 - see `_session`
        from joserfc.errors import BadSignatureError, InvalidKeyIdError  # noqa: PLC0415 - see `_session`

        keys = await self._key_set(metadata)
        try:
            decoded = jwt.decode(text, keys, algorithms=ALGORITHMS)
        except (BadSignatureError, InvalidKeyIdError):
            # The issuer may have begun to sign with a new key.
            decoded = jwt.decode(text, await self._key_set(metadata, is_stale=True), algorithms=ALGORITHMS)
        return dict(decoded.header), dict(decoded.claims)

    async def _key_set(self, metadata: _Metadata, *, is_stale: bool = False) -> "KeySet":
        from joserfc.jwk import KeySet  # noqa: PLC0415 - see `_session`

        now_s = time.monotonic()
        may_ask_again = is_stale and now_s - self._asked_again_at > KEYS_AGAIN_S
        if may_ask_again:
            self._asked_again_at = now_s
        if self._keys is None or now_s - self._read_at > KEPT_S or may_ask_again:
            document = msgspec.json.decode(await self._get(metadata.jwks_uri), type=_Keys)
            self._keys = KeySet([key for one in document.keys if (key := _imported(one)) is not None])
            self._read_at = now_s
        return self._keys

    async def _user_info(
        self, metadata: _Metadata, token: Mapping[str, object], claims: Mapping[str, object]
    ) -> dict[str, object]:
        """Return what the issuer says apart from its token, if it speaks of the same person."""
        answer = await self._get(metadata.userinfo_endpoint, bearer=str(token.get("access_token")))
        found = msgspec.json.decode(answer)
        if not isinstance(found, dict) or found.get("sub") != claims["sub"]:
            raise _refusal("the issuer speaks of another person")
        return {name: found[name] for name in _PERSONAL if name in found}

    async def _discovered(self) -> _Metadata:
        if self._metadata is not None:
            return self._metadata
        if time.monotonic() - self._failed_at < REST_S:
            raise Unavailable("the sign-in issuer could not be reached a moment ago; try again")
        try:
            document = await self._get(f"{self._client.issuer}/.well-known/openid-configuration")
        except Unavailable:
            self._failed_at = time.monotonic()
            raise
        try:
            metadata = msgspec.json.decode(document, type=_Metadata)
        except msgspec.MsgspecError:
            raise Unavailable("the sign-in issuer's discovery document cannot be read") from None
        if metadata.issuer.rstrip("/") != self._client.issuer:
            raise Unavailable("the sign-in issuer calls itself by another name than oidc_issuer")
        ends = (
            metadata.authorization_endpoint,
            metadata.token_endpoint,
            metadata.jwks_uri,
            metadata.userinfo_endpoint,
        )
        if not all(_is_safe(end) for end in ends if end):
            raise Unavailable("the sign-in issuer names an address without TLS")
        self._metadata = metadata
        return metadata

    async def _get(self, url: str, *, bearer: str = "") -> bytes:
        from httpx2 import AsyncClient, HTTPError  # noqa: PLC0415 - see `_session`

        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            async with AsyncClient(timeout=TIMEOUT_S, trust_env=True) as client:
                answer = await client.get(url, headers=headers)
                return answer.raise_for_status().content
        except HTTPError:
            raise Unavailable("the sign-in issuer cannot be reached; try again") from None

    def _session(self, metadata: _Metadata) -> "AsyncOAuth2Client":
        # Only here: few installations sign in elsewhere, and a cold start should not pay for it.
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # noqa: PLC0415

        method = "client_secret_basic"
        if not self._client.client_secret:
            method = "none"
        elif method not in metadata.token_endpoint_auth_methods_supported:
            method = "client_secret_post"
        return AsyncOAuth2Client(
            self._client.client_id,
            self._client.client_secret or None,
            scope=SCOPE,
            redirect_uri=self._client.redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method=method,
            timeout=TIMEOUT_S,
        )


_PERSONAL = ("email", "email_verified", "given_name", "family_name")


def _claims_of(issuer: str, claims: Mapping[str, object]) -> IssuerClaims:
    return IssuerClaims(
        issuer=issuer,
        subject=str(claims["sub"]),
        email=str(claims.get("email") or ""),
        # Some issuers write the boolean as text; a number is no such word.
        is_verified=claims.get("email_verified") is True or claims.get("email_verified") == "true",
        first_name=str(claims.get("given_name") or "")[:256],
        last_name=str(claims.get("family_name") or "")[:256],
    )


def _imported(key: dict[str, str | list[str]]) -> "Key | None":
    """Return a published key; None for one of a kind that we do not know."""
    from joserfc.errors import JoseError  # noqa: PLC0415 - see `Oidc._session`
    from joserfc.jwk import import_key  # noqa: PLC0415 - see `Oidc._session`

    try:
        return import_key(key)
    except (JoseError, ValueError, TypeError):
        return None


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _refusal(reason: str) -> Unauthenticated:
    return Unauthenticated(f"Unauthorized: {reason}; begin the sign-in again")
