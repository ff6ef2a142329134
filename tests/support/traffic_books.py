"""What a ledger must say of the traffic that it answered: nothing lost, nothing twice."""

from decimal import Decimal

from support.engines import Database
from support.server import Server
from support.traffic import COST_NUSD, Traffic

NANOS = 10**9


class Books:
    """A budget that every call meets, made before the first one, and the check of all sums."""

    def __init__(self, database: Database, server: Server) -> None:
        self._database = database
        answer = server.post("/v1/budgets", {"name": "all", "limit": "1000000.00"})
        assert answer.status_code == 201, answer.text
        self._budget = answer.json()["id"]

    def agree(self, traffic: Traffic, server: Server) -> None:
        """Fail unless events, sums and the budget's window say what was acknowledged."""
        spent = traffic.events * COST_NUSD
        [(events, keys, cost)] = self._database.rows(
            "SELECT count(*), count(DISTINCT key), coalesce(sum(cost_nusd), 0) FROM event"
        )
        assert (events, keys, cost) == (traffic.events, traffic.events, spent)
        [(summed,)] = self._database.rows("SELECT sum(cost_nusd) FROM rollup_agent")
        assert summed == spent
        window = server.get(f"/v1/budgets/{self._budget}").json()["window"]
        shown = (Decimal(window["settled"]) * NANOS, Decimal(window["held"]))
        assert self._database.verify().violations == ()
        assert shown == (spent, 0), window
