"""Every setting of a server process: one frozen class, read once in `cli`, passed by `wiring`.

Order: flag, then environment (`BURSAR_…`), then file (`bursar.toml` in the working
directory, or the file that `BURSAR_CONFIG` names), then these defaults. Bounds carry their
unit in their name.
"""

import os
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "BURSAR_CONFIG"
CONFIG_NAME = "bursar.toml"
DEFAULT_PORT = 8317


class Settings(BaseSettings):
    """The settings of one server process."""

    model_config = SettingsConfigDict(env_prefix="BURSAR_", frozen=True, extra="forbid")

    data_dir: Path = Field(default=Path("data"), description="Directory of the ledger file.")
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
    metrics_token: str = Field(
        default="", description="Token that /metrics asks for when the caller is not on this machine."
    )

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


class _PlainKeys(TomlConfigSettingsSource):
    """The file without its tables: those hold defaults of commands' options (`cli.configuration`)."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if not isinstance(value, dict)}
