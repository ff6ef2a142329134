"""`enforcement.alert_configs.ConfigReader` on reading connections, and the newest alerts of all budgets.

Not here: what is written (`alert_configs`), alerts of one budget (`budget_lists`).
"""

from itertools import islice
from operator import itemgetter

from bursar.budgets.alert import Alert
from bursar.budgets.budget import Budget
from bursar.core.ids import Org
from bursar.enforcement.alert_configs import AlertConfig
from bursar.enforcement.reading import Sight
from bursar.storage.sql import budget_rows as rows
from bursar.storage.sql.alert_configs import COLUMNS, OF_AGENT, config_of
from bursar.storage.sql.ports import Connection, Readers, Rows
from bursar.storage.sql.walks import walked

_ALL = f"SELECT {COLUMNS} FROM alert_config WHERE org = ? AND id > ? ORDER BY id LIMIT ?"
_ONE = f"SELECT {COLUMNS} FROM alert_config WHERE org = ? AND id = ?"
_ALERTS = f"""SELECT {rows.ALERT_COLUMNS} FROM alert
    WHERE org = ? AND at >= ? AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?"""
_LATEST = (2**63 - 1, b"")
_BUDGET = f"SELECT {rows.BUDGET_COLUMNS} FROM budget WHERE org = ? AND id = ?"


class SqlConfigReader:
    """`ConfigReader`, and the newest alerts, on reading connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def configs(
        self, org: Org, *, agent: str | None = None, after: bytes = b"", most: int
    ) -> list[AlertConfig]:
        """Return configs in order of id."""

        def work(connection: Connection) -> list[AlertConfig]:
            if agent is None:
                found = connection.execute(_ALL, (org, after, most))
            else:
                found = connection.execute(f"{OF_AGENT} LIMIT ?", (org, agent, after, most))
            return list(map(config_of, found))

        return await self._readers.run(org, work)

    async def config(self, org: Org, config_id: bytes) -> AlertConfig | None:
        """Return one config."""

        def work(connection: Connection) -> AlertConfig | None:
            row = connection.execute(_ONE, (org, config_id)).fetchone()
            return None if row is None else config_of(row)

        return await self._readers.run_short(org, work)

    async def alerts(
        self, org: Org, sight: Sight, *, since: int, most: int
    ) -> list[tuple[Alert, Budget | None]]:
        """Return the newest alerts since an instant, newest first, each with its budget, ended or not.

        Args:
            org: The organisation.
            sight: Whose: an alert that names an agent is shown for that one, else by its budget.
            since: Microseconds UTC.
            most: How many at most.
        """

        def work(connection: Connection) -> list[tuple[Alert, Budget | None]]:
            budgets: dict[bytes, Budget] = {}

            def budget_of(alert: Alert) -> Budget | None:
                if alert.budget is None:
                    return None
                if alert.budget not in budgets:
                    row = connection.execute(_BUDGET, (org, alert.budget)).fetchone()
                    budgets[alert.budget] = rows.budget_of(tuple(row))
                return budgets[alert.budget]

            def part(place: tuple[int, bytes], most: int) -> Rows:
                return connection.execute(_ALERTS, (org, since, *place, most))

            found = (rows.alert_of(tuple(row)) for row in walked(part, _LATEST, itemgetter(1, 0)))
            paired = ((alert, budget_of(alert)) for alert in found)
            return list(islice((pair for pair in paired if _shows(sight, *pair)), most))

        return await self._readers.run(org, work)


def _shows(sight: Sight, alert: Alert, budget: Budget | None) -> bool:
    """Tell whether an alert is in sight: of the agent that caused it, or of a budget of that agent alone."""
    if sight.agent and sight.agent not in {alert.agent, "" if budget is None else budget.scope.agent}:
        return False
    if budget is None:
        return not (sight.project or sight.api_key)
    return sight.shows(budget)
