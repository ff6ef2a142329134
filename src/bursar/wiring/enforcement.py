"""The parts of budgets, holds, gates and leases, put together for `treasury`.

store, clocks  →  Enforcement  →  jobs, routers, hot routes
"""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.types import ASGIApp

from bursar.budgets.clock import DecisionClock, Now
from bursar.directory.organisations import OrganisationStore
from bursar.enforcement.desk import Desk
from bursar.enforcement.due import Due
from bursar.enforcement.hold_reading import KnownBudgets
from bursar.enforcement.indexes import Indexes
from bursar.enforcement.sketches import Sketches
from bursar.enforcement.spending import Spending
from bursar.http.v1.agent_budgets import agent_budgets_router
from bursar.http.v1.budget_explain import budget_explain_router
from bursar.http.v1.budget_simulate import budget_simulate_router
from bursar.http.v1.budgets import BudgetRoutes, budgets_router
from bursar.http.v1.clock import clock_router
from bursar.http.v1.gates import gates_router
from bursar.http.v1.holds import HoldDoors, HoldEndpoint, HoldsEndpoint
from bursar.http.v1.holds_read import holds_router
from bursar.http.v1.incidents import incidents_router
from bursar.http.v1.ingest import BodyLimits
from bursar.http.v1.leases import LeaseEndpoint, LeasesEndpoint
from bursar.identity.ports import KeyStore
from bursar.ingestion.intake import Intake
from bursar.ingestion.ports import PriceBooks
from bursar.jobs.schedule import Job
from bursar.storage.sql.alert_reads import SqlConfigReader
from bursar.storage.sql.budget_explain import SqlExplainer
from bursar.storage.sql.budget_history import SqlHistory
from bursar.storage.sql.budget_reads import SqlBudgetReader
from bursar.storage.sql.engine import Engine
from bursar.storage.sql.hold_lists import SqlHoldReader
from bursar.storage.sql.marks import Kept, mark
from bursar.storage.sql.ports import EVERY_ORG, Transaction
from bursar.storage.sql.sketches import SqlSketches
from bursar.web.guard import Guard
from bursar.web.principal import Authenticator

DUE_SECONDS = 1.0
"""How often holds lapse and raises end: what a refused caller waits at most beyond the deadline."""

WINDOW_SECONDS = 60.0
"""How often windows that are over are closed, and suspense ended."""

SKETCH_SECONDS = 5.0
"""How often what was learned of outputs is written: what a crash forgets."""


class Enforcement:
    """One process's budgets.

    Args:
        engine: Open.
        keys: Which scopes may name.
        organisations: Whose budgets the jobs look after.
        clock: Microseconds UTC.
        monotonic: Microseconds of a clock that never steps.
    """

    def __init__(
        self,
        engine: Engine,
        keys: KeyStore,
        organisations: OrganisationStore,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], int],
    ) -> None:
        store, readers = engine.store, engine.readers
        self.decision_clock = DecisionClock(last=engine.last_decided_at())
        engine.hear_decisions(self.decision_clock.observe)
        engine.changes.on(Kept.CLOCK, lambda _org: self.decision_clock.confirm())
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._organisations = organisations
        self.indexes = Indexes()
        self.desk = Desk(store, self.indexes, self.now)
        self._due = Due(store, self.desk, self.now)
        self.sketches = Sketches(SqlSketches(store, readers))
        self.spending = Spending(self.indexes, self.now, self.sketches)
        self.budget_routes = self._budgets = BudgetRoutes(self.desk, SqlBudgetReader(readers), keys, self.now)
        self.configs = SqlConfigReader(readers)
        self._holds = SqlHoldReader(readers)
        self._known_budgets = KnownBudgets(self.indexes, self._holds)
        self._explainer = SqlExplainer(readers)
        self._history = SqlHistory(readers)

    def now(self) -> Now:
        """Return the time to decide by."""
        return self.decision_clock.read(self._clock(), self._monotonic())

    @property
    def clock_state(self) -> str:
        """`suspect` while a step of the clock waits for the operator's word, else `ok`."""
        return "ok" if self.now().doubted is None else "suspect"

    async def confirm_clock(self) -> bool:
        """Believe the clock, here and in every other process; tell whether it was in doubt here."""
        was_doubted = self.now().doubted is not None

        async def tell(transaction: Transaction) -> None:
            mark(transaction.everywhere, EVERY_ORG, Kept.CLOCK)

        await self._store.transact(tell)
        self.decision_clock.confirm()
        return was_doubted

    def jobs(self) -> list[Job]:
        """Return what has to run by itself."""
        return [
            Job("holds", DUE_SECONDS, self._due.run_quick_everywhere),
            Job("windows", WINDOW_SECONDS, self._due.run_everywhere),
            Job("sketches", SKETCH_SECONDS, self.sketches.flush, gathers=True),
        ]

    async def run_due(self) -> None:
        """Do everything that is due, in every organisation."""
        await self._due.run_everywhere()

    def routers(self, guard: Guard) -> list[APIRouter]:
        """Return the routes that the framework serves."""
        return [
            budget_explain_router(guard, self._explainer, lambda: self.now().at),
            budget_simulate_router(guard, self._history, self._budgets.keys, lambda: self.now().at),
            budgets_router(guard, self._budgets),
            holds_router(guard, self._holds, self._known_budgets),
            agent_budgets_router(guard, self._budgets),
            gates_router(guard, self._budgets),
            incidents_router(guard, self._budgets),
            clock_router(guard, self.confirm_clock),
        ]

    def hot(
        self, authenticator: Authenticator, limits: BodyLimits, intake: Intake, books: PriceBooks
    ) -> dict[tuple[str, str], ASGIApp]:
        """Return the plain ASGI callables by method and path (see `web.edge`)."""
        doors = HoldDoors(
            authenticator, limits, self.desk, intake, books, self.sketches,
            self._holds, self._known_budgets, self._budgets.keys, self._clock,
        )  # fmt: skip
        return {
            ("POST", "/v1/holds"): HoldsEndpoint(doors),
            ("POST", "/v1/holds/*"): HoldEndpoint(doors),
            ("POST", "/v1/leases"): LeasesEndpoint(doors),
            ("POST", "/v1/leases/*"): LeaseEndpoint(doors),
        }
