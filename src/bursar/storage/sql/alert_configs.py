"""Alert configs and what clients asked for last, within a transaction.

`enforcement.alert_configs.ConfigStore` on a transaction's connection. Not here: reads (`alert_reads`).
"""

from collections.abc import Callable, Iterable
from typing import Any

from bursar.core.ids import Org
from bursar.enforcement.alert_configs import AlertConfig
from bursar.storage.sql.ports import Connection

COLUMNS = "id, agent, channel, share_ppm, metric, target, secret, is_delivered, source, created_at"
OF_AGENT = f"SELECT {COLUMNS} FROM alert_config WHERE org = ? AND agent = ? AND id > ? ORDER BY id"
_ADD = f"INSERT INTO alert_config (org, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM alert_config WHERE org = ? AND id = ?"
_SYNCED = "SELECT body FROM synced_config WHERE org = ? AND agent = ?"
_PUT_SYNCED = """INSERT INTO synced_config (org, agent, body, synced_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (org, agent) DO UPDATE SET body = excluded.body, synced_at = excluded.synced_at"""


class SqlConfigs:
    """`ConfigStore`: one organisation within one transaction."""

    def __init__(self, connection: Connection, org: Org, know_agent: Callable[[str], None]) -> None:
        self._connection = connection
        self._org = org
        self._know_agent = know_agent

    async def know_agent(self, name: str) -> None:
        """Enter an agent that is new."""
        self._know_agent(name)

    async def synced(self, agent: str) -> bytes | None:
        """Return what an agent's client asked for last."""
        row = self._connection.execute(_SYNCED, (self._org, agent)).fetchone()
        return None if row is None else row[0].encode()

    async def put_synced(self, agent: str, body: bytes, at: int) -> None:
        """Keep what an agent's client has asked for."""
        self._connection.execute(_PUT_SYNCED, (self._org, agent, body.decode(), at))

    async def of_agent(self, agent: str) -> list[AlertConfig]:
        """Return the configs of an agent, oldest first."""
        return list(map(config_of, self._connection.execute(OF_AGENT, (self._org, agent, b""))))

    async def add(self, configs: Iterable[AlertConfig]) -> None:
        """Store new configs."""
        self._connection.executemany(_ADD, [(self._org, *_row_of(config)) for config in configs])

    async def remove(self, ids: Iterable[bytes]) -> None:
        """Take configs away."""
        self._connection.executemany(_REMOVE, [(self._org, one) for one in ids])


def config_of(row: Any) -> AlertConfig:  # noqa: ANN401 - as the engine gives it
    """Return the config of a row of `COLUMNS`."""
    config_id, agent, channel, share_ppm, metric, target, secret, is_delivered, source, created_at = row
    return AlertConfig(
        id=config_id,
        agent=agent,
        channel=channel,
        share_ppm=share_ppm,
        metric=metric,
        target=target,
        secret=secret,
        is_delivered=bool(is_delivered),
        source=source,
        created_at=created_at,
    )


def _row_of(config: AlertConfig) -> tuple[object, ...]:
    c = config
    return (
        c.id, c.agent, c.channel, c.share_ppm, c.metric, c.target, c.secret, int(c.is_delivered), c.source,
        c.created_at,
    )  # fmt: skip
