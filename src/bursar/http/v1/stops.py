"""What a sender of recorded spend is told of its budgets: go on, or stop, and how much is left.

    Receipt.seen + the request's events  →  Verdict  →  202 with `rejected_agents`, or 429 with a reason

The spend is recorded before anybody is told to stop. A hard budget of the organisation stops
everybody; an agent's own hard budget or a gate stops that agent; a request is refused as a whole only
when it has no agent that may go on, because its client stops with whoever sent it. Events that
carry a hold asked before, and are never told to stop.
"""

from collections.abc import Iterable
from typing import NamedTuple

from bursar.budgets.batch import Seen, Stop
from bursar.budgets.standing import Standing, tightest
from bursar.core.ids import text_from_id
from bursar.core.time import text_from_micros
from bursar.core.usage import UsageEvent
from bursar.http.v1.budget_headers import Headers, money_headers
from bursar.web.problems import problem

ORGANISATION = "org_budget_exceeded"
AGENT = "tier_agent_limit"


class Verdict(NamedTuple):
    """What becomes of one request.

    Attributes:
        code: Why all of it is told to stop; None where something may go on.
        stop: What stands behind `code`.
        stopped: The request's agents that are stopped, in order of first mention.
        standing: Of the budget nearest to its end that the request's spend met.
    """

    code: str | None = None
    stop: Stop | None = None
    stopped: tuple[str, ...] = ()
    standing: Standing | None = None


_GO_ON = Verdict()


def verdict_of(seen: Seen, events: Iterable[UsageEvent]) -> Verdict:
    """Return what to tell whoever sent `events`."""
    if not seen.agents:
        return _GO_ON
    agents = dict.fromkeys(event.subject.agent for event in events if event.hold is None)
    own = {agent: seen.agents[agent] for agent in agents if agent in seen.agents}
    standing = tightest([one.standing for one in own.values() if one.standing is not None])
    if not own:
        return Verdict(standing=standing)
    if seen.organisation is not None:
        return Verdict(ORGANISATION, seen.organisation, tuple(own), standing)
    stops = {agent: one.stop for agent, one in own.items() if one.stop is not None}
    code = AGENT if len(stops) == len(own) else None
    return Verdict(code, next(iter(stops.values()), None), tuple(stops), standing)


def stopped_body(verdict: Verdict, *, recorded: int, rejected: int) -> dict[str, object]:
    """Return the problem of a request that is stopped as a whole, with what was recorded first."""
    stop = verdict.stop or Stop("budget", "its budget is used up")
    resume_at = None if stop.resume_at is None else text_from_micros(stop.resume_at)
    detail = f"{stop.detail}; the spend was recorded, start no new call"
    return problem(
        429,
        str(verdict.code),
        detail,
        {
            "reason": verdict.code,
            "cause": stop.cause,
            "rejected_agents": list(verdict.stopped),
            "budget_id": None if stop.budget is None else text_from_id("bud", stop.budget),
            "resume_at": resume_at,
            "recorded": recorded,
            "accepted": recorded,
            "rejected": rejected,
        },
    )


def headers_of(verdict: Verdict, now: int) -> Headers:
    """Return the money headers of the budget nearest to its end; none without budgets."""
    standing = verdict.standing
    if standing is None:
        return ()
    window = standing.window
    return money_headers(
        standing.budget,
        standing.metric,
        standing.state.value,
        starts_at=window.key.starts_at,
        ends_at=window.ends_at,
        limit=window.limit,
        remaining=standing.remaining,
        now=now,
    )
