"""An OpenID Connect issuer as a process of its own, with RS256 keys, which lies when it is told to.

with running_issuer() as issuer:
    issuer.says(sub="1", email="alice@example.com", email_verified=True)
    code = issuer.sign_in(authorization_url)

It checks what a good issuer checks: client, redirect address, PKCE, one use of a code.
"""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "bursar-at-work"
CLIENT_SECRET = "a secret between the two"


class Issuer:
    """The process, seen from a test."""

    def __init__(self, url: str) -> None:
        self.url = url

    def says(self, **claims: object) -> None:
        """Let the next tokens carry these claims over the true ones; None leaves a claim out.

        `alg` (`none`, `HS256`, `other-key`) has them signed wrongly, `discovery` changes the document, and
        `userinfo` says what the userinfo endpoint answers.
        """
        httpx2.post(f"{self.url}/test/says", json=claims, trust_env=False).raise_for_status()

    def rotate(self) -> None:
        """Sign with a fresh key from now on."""
        httpx2.post(f"{self.url}/test/rotate", json={}, trust_env=False).raise_for_status()

    def sign_in(self, url: str) -> dict[str, str]:
        """Go to an authorization address as a browser would; return what the callback is called with."""
        answer = httpx2.get(url, trust_env=False)
        assert answer.status_code == 302, answer.text
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in query.items()}


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Run an issuer on a free port."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Issuer(_address(process.stdout))
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _address(output: IO[str]) -> str:
    return output.readline().strip()


class _State:
    """What the process knows."""

    def __init__(self) -> None:
        self.url = ""
        self.said: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.keys = [self._fresh()]

    def _fresh(self) -> RSAKey:
        return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)

    def rotate(self) -> None:
        self.keys.append(self._fresh())

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url, "aud": CLIENT_ID, "sub": "1", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"],
        }  # fmt: skip
        said = {name: value for name, value in self.said.items() if name not in _CONTROLS}
        claims = {name: value for name, value in (claims | said).items() if value is not None}
        return self._signed(claims, str(self.said.get("alg", "RS256")))

    def _signed(self, claims: dict[str, Any], algorithm: str) -> str:
        key = self.keys[-1]
        if algorithm == "none":
            return ".".join(_packed(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + "."
        if algorithm == "HS256":
            # The attack on those who take any algorithm: the public key is everybody's secret.
            header = {"alg": "HS256", "kid": str(key.kid)}
            signed = ".".join(_packed(json.dumps(part).encode()) for part in (header, claims))
            tag = hmac.digest(key.as_pem(private=False), signed.encode(), hashlib.sha256)
            return f"{signed}.{_packed(tag)}"
        header = {"alg": "RS256", "kid": key.kid}
        signer = self._fresh() if algorithm == "other-key" else key
        return jwt.encode(header, claims, signer)


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


_CONTROLS = {"alg", "discovery", "userinfo"}
_STATE = _State()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Discovery, keys, authorization and userinfo."""
        path = urlsplit(self.path).path
        url = _STATE.url
        if path == "/.well-known/openid-configuration":
            document = {
                "issuer": url, "authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token",
                "jwks_uri": f"{url}/keys", "userinfo_endpoint": f"{url}/userinfo",
                "code_challenge_methods_supported": ["S256"],
            }  # fmt: skip
            self._answer(document | _STATE.said.get("discovery", {}))
        elif path == "/keys":
            self._answer({"keys": [key.as_dict(private=False) for key in _STATE.keys]})
        elif path == "/userinfo":
            self._answer(_STATE.said.get("userinfo", {}))
        elif path == "/authorize":
            self._authorize()

    def do_POST(self) -> None:
        """The token endpoint, and what tests say."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/test/says":
            _STATE.said = json.loads(body)
            self._answer({})
        elif self.path == "/test/rotate":
            _STATE.rotate()
            self._answer({})
        elif self.path == "/token":
            self._token({name: values[0] for name, values in parse_qs(body).items()})

    def _authorize(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        good = asked["client_id"] == CLIENT_ID and asked["response_type"] == "code"
        if not good or asked["code_challenge_method"] != "S256" or "openid" not in asked["scope"].split():
            self._answer({"error": "invalid_request"}, 400)
            return
        code = f"code-{len(_STATE.codes)}"
        _STATE.codes[code] = asked
        self.send_response(302)
        query = urlencode({"code": code, "state": asked["state"]})
        self.send_header("Location", f"{asked['redirect_uri']}?{query}")
        self.end_headers()

    def _token(self, form: dict[str, str]) -> None:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = _STATE.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = _packed(digest)
        if self.headers.get("Authorization") != f"Basic {basic}":
            self._answer({"error": "invalid_client"}, 401)
        elif (
            asked is None
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["code_challenge"] != challenge
        ):
            self._answer({"error": "invalid_grant"}, 400)
        else:
            token = _STATE.id_token(asked)
            self._answer({"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    def _answer(self, document: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    _STATE.url = f"http://127.0.0.1:{server.server_port}"
    print(_STATE.url, flush=True)  # noqa: T201 - tells the test where it answers
    server.serve_forever()
