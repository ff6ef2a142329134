"""Every setting of a server process: one frozen class, read once in `cli`, passed by `wiring`.

Order: flag, then environment (`BURSAR_…`), then file (`bursar.toml` in the working
directory, or the file that `BURSAR_CONFIG` names), then these defaults. Bounds carry their
unit in their name.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "BURSAR_CONFIG"
CONFIG_NAME = "bursar.toml"
DEFAULT_PORT = 8317
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")
_OPERATOR_TOKEN = re.compile(r"op_[0-9A-Za-z]{32,256}")
_SENDER = re.compile(r"[^\r\n]*[^\s@<>]+@[^\s@<>]+>?")


class Settings(BaseSettings):
    """The settings of one server process."""

    model_config = SettingsConfigDict(env_prefix="BURSAR_", frozen=True, extra="forbid")

    data_dir: Path = Field(default=Path("data"), description="Directory of the ledger file.")
    database_url: str = Field(
        default="", description="postgresql://… of the server profile; empty keeps the ledger in data_dir."
    )
    database_connections: int = Field(
        default=8, ge=2, le=200, description="Connections to PostgreSQL for writes, of each process."
    )
    database_pooled: bool = Field(
        default=False, description="Whether a pooler in transaction mode stands before PostgreSQL."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes that serve; more than one needs database_url."
    )
    runs_jobs: bool = Field(
        default=True, description="Whether a server runs the background jobs too, beside bursar jobs."
    )
    drain_seconds: float = Field(
        default=1.0,
        ge=0,
        le=300,
        description="Seconds for which a server that ends says so before it closes connections.",
    )
    operator_token: str = Field(
        default="",
        description="The operator's secret, one for all servers of a database; empty keeps one in data_dir.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=DEFAULT_PORT, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    org: str = Field(
        default="default", min_length=1, max_length=256, description="Name of the first organisation."
    )
    zone: str = Field(default="UTC", description="IANA time zone of the first organisation.")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="Log level.")

    batch_events_max: int = Field(default=1_000, ge=1, le=10_000, description="Events in one ingest request.")
    wire_bytes_max: int = Field(
        default=32 * 2**20, ge=1024, description="Bytes of a request body as sent (compressed)."
    )
    body_bytes_max: int = Field(default=32 * 2**20, ge=1024, description="Bytes of a request body, inflated.")
    coalesce_events_max: int = Field(
        default=64,
        ge=1,
        le=1_000,
        description="Requests below this many events share a commit, up to this many.",
    )
    audit_seconds: float = Field(default=60.0, gt=0, description="Seconds between two runs of the auditor.")
    key_usage_seconds: float = Field(
        default=5.0, gt=0, description="Seconds between two writes of when keys were last used."
    )
    record_beyond_quota: bool = Field(
        default=False,
        description="Record events beyond an organisation's events per day before refusing them.",
    )
    metrics_token: str = Field(
        default="", description="Token that /metrics asks for when the caller is not on this machine."
    )

    public_url: str = Field(
        default="", description="Where people reach this server, such as https://bursar.example.com."
    )
    strict_sign_up: bool = Field(
        default=False, description="Answer sign-ups alike whether an address is known or not."
    )
    smtp_host: str = Field(default="", description="Mail server; empty prints mails to the console.")
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Port of the mail server.")
    smtp_security: str = Field(
        default="starttls", pattern="^(starttls|tls|none)$", description="starttls, tls or none."
    )
    smtp_user: str = Field(default="", description="Name to log in with at the mail server.")
    smtp_password: str = Field(default="", description="Password of that name.")
    mail_from: str = Field(
        default="", validate_default=True, description="Address that mails come from; needed with smtp_host."
    )
    oidc_issuer: str = Field(default="", description="OpenID Connect issuer to sign in with; empty for none.")
    oidc_client_id: str = Field(
        default="", validate_default=True, description="Our name there; needed with oidc_issuer."
    )
    oidc_client_secret: str = Field(default="", description="Our secret there; empty for a public client.")
    oidc_label: str = Field(default="Single sign-on", max_length=64, description="What the button says.")
    oidc_domains: str = Field(
        default="",
        description="Domains, parted by commas, whose people may join the first organisation by signing in.",
    )

    @property
    def is_shared(self) -> bool:
        """Whether several processes may have the ledger open."""
        return bool(self.database_url)

    @property
    def connections_max(self) -> int:
        """How many connections a process takes at most: as docs/scale.md counts them."""
        return 2 * self.database_connections + 5

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, value: str) -> str:
        # Never with the value: it carries a password.
        if value and not _is_postgres(value):
            raise ValueError("must be an address such as postgresql://user:password@host:5432/bursar")
        return value

    @field_validator("workers")
    @classmethod
    def _workers_share_a_database(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("database_url") == "":
            raise ValueError("one process writes a ledger file: keep 1, or set database_url to a PostgreSQL")
        return value

    @field_validator("operator_token")
    @classmethod
    def _secret_is_long(cls, value: str) -> str:
        if value and not _OPERATOR_TOKEN.fullmatch(value):
            raise ValueError(
                'must be "op_" and 32 or more letters or digits: openssl rand -hex 32 makes them'
            )
        return value

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query):
            raise ValueError(f"{value!r} is no address such as https://bursar.example.com")
        return value.rstrip("/")

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_safe(cls, value: str) -> str:
        if value.startswith("http://") and urlsplit(value).hostname not in _LOOPBACK:
            raise ValueError("must begin with https:// (http:// is for this machine only)")
        return value

    @field_validator("mail_from")
    @classmethod
    def _mails_have_a_sender(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("smtp_host") and not _SENDER.fullmatch(value):
            raise ValueError("must be an address such as bursar@example.com when smtp_host is set")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _issuer_knows_us(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not (value and info.data.get("public_url")):
            raise ValueError("oidc_client_id and public_url are needed when oidc_issuer is set")
        return value

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is no IANA time zone, such as Europe/Berlin") from None
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: the earlier wins."""
        del dotenv_settings, file_secret_settings
        path = Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_NAME)
        return (init_settings, env_settings, _PlainKeys(settings_cls, toml_file=path))


def _is_postgres(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return parts.scheme in {"postgresql", "postgres"} and all(_HOST.fullmatch(host) for host in hosts)


class _PlainKeys(TomlConfigSettingsSource):
    """The file without its tables: those hold defaults of commands' options (`cli.configuration`)."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if not isinstance(value, dict)}
