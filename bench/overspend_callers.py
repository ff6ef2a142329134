"""Callers of a model that somebody else pays for: how they ask, what their calls cost, how they fail.

    Kind (what is asked, what it costs)  +  Habits (repeats, voids, deaths)  →  Caller.call  →  Book

The provider is a pause and a figure: it charges `gpt-4o`'s list price, so that a call with
400 tokens in and 900 out costs 0.01 USD. Everything random comes from the scenario's seed.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from bursar.core.money import nusd_from_text, text_from_nusd
from overspend_book import Book, Entry, Refusal
from overspend_server import Target
from overspend_wire import Answer, Wire

CENT_NUSD = 10_000_000
MODEL = {"provider": "openai", "model": "gpt-4o"}
INPUT_TOKENS = 400
INPUT_NUSD, OUTPUT_NUSD = 2_500, 10_000
"""What a token costs at the provider."""
BOUND_TOKENS = 900
MODEL_MAX_TOKENS = 16_384
DEAD_AFTER_S = 1
"""Deadline and grace of a call whose caller will die: its room is back two seconds later."""

Random = random.Random
Body = dict[str, object]


class Bill(NamedTuple):
    """What the provider charged, and how it is reported to the server."""

    cost_nusd: int
    report: Body


class Kind(NamedTuple):
    """How a sort of caller asks, and what its calls cost.

    Attributes:
        asks: What stands in the request for a hold beside key, agent and model.
        bill: What a call costs, given the answered `max_output_tokens`.
        worst_nusd: What a hold may set aside at most, while its answer is not known.
    """

    asks: Body
    bill: Callable[[Random, int | None], Bill]
    worst_nusd: int


class Habits(NamedTuple):
    """Shares of the calls that go wrong in some way.

    Attributes:
        repeats: The same key is sent twice at once, over two connections.
        voids: The call turns out not to be made.
        cuts: The caller dies before it hears the answer.
        deaths: It dies with the hold in its hand, before the call.
        silences: It dies after the call: the provider charges, the server hears nothing.
    """

    repeats: float = 0.10
    voids: float = 0.15
    cuts: float = 0.02
    deaths: float = 0.02
    silences: float = 0.0


HARMLESS = Habits(0, 0, 0, 0, 0)


def _named_amount(rng: Random, _bound: int | None) -> Bill:
    cost = rng.randint(CENT_NUSD // 4, CENT_NUSD)
    return Bill(cost, {"cost_usd": text_from_nusd(cost)})


def tokens_bill(output_tokens: int) -> Bill:
    """Return what a call with that many tokens of output costs."""
    cost = INPUT_TOKENS * INPUT_NUSD + output_tokens * OUTPUT_NUSD
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": output_tokens}
    return Bill(cost, {"usage": usage})


def long_tailed(rng: Random) -> int:
    """Return the output of a call that nobody bounds: half below 400 tokens, one in a hundred above 4,000."""
    return max(1, min(MODEL_MAX_TOKENS, round(rng.lognormvariate(6.0, 1.0))))


def _bounded(rng: Random, bound: int | None) -> Bill:
    return tokens_bill(min(long_tailed(rng), bound or BOUND_TOKENS, BOUND_TOKENS))


def _passed_on(rng: Random, bound: int | None) -> Bill:
    assert bound is not None, "the answer carries no max_output_tokens"
    return tokens_bill(min(long_tailed(rng), bound))


def _unbounded(rng: Random, _bound: int | None) -> Bill:
    return tokens_bill(long_tailed(rng))


_MAX_NUSD = tokens_bill(MODEL_MAX_TOKENS).cost_nusd
NAMES_AMOUNT = Kind({"amount_usd": "0.01"}, _named_amount, CENT_NUSD)
BOUNDS_OUTPUT = Kind(
    {"usage": {"input_tokens": INPUT_TOKENS, "max_output_tokens": BOUND_TOKENS}}, _bounded, CENT_NUSD
)
_NO_BOUND: Body = {"usage": {"input_tokens": INPUT_TOKENS}}
PASSES_OURS_ON = Kind(_NO_BOUND, _passed_on, _MAX_NUSD)
TAKES_LESS = Kind(_NO_BOUND | {"allow_smaller": True, "min_output_tokens": 100}, _passed_on, _MAX_NUSD)
"""It passes on what we answer, also where that is less than it would like."""
ASKS_FOR_ALL = Kind(
    {"usage": {"input_tokens": INPUT_TOKENS, "max_output_tokens": MODEL_MAX_TOKENS}}, _passed_on, _MAX_NUSD
)
"""It sets the model's maximum aside, as others do for callers that send no bound."""
BOUNDS_NOTHING = Kind(_NO_BOUND, _unbounded, _MAX_NUSD)


class Caller:
    """One of many concurrent callers, with two connections of its own."""

    def __init__(
        self, target: Target, agent: str, kind: Kind, habits: Habits, *, book: Book, seed: int
    ) -> None:
        self._wires = (Wire(target.url, target.key), Wire(target.url, target.key))
        self._agent, self._kind, self._habits, self._book = agent, kind, habits, book
        self._rng = Random(seed)

    async def call(self) -> bool:
        """Ask, call the provider if granted, report; tell whether it was granted."""
        rng, habits, book = self._rng, self._habits, self._book
        entry = Entry(str(uuid.UUID(int=rng.getrandbits(128), version=4)), self._kind.worst_nusd)
        book.entries[entry.key] = entry
        fate = rng.random()
        is_doomed = fate < habits.cuts + habits.deaths + habits.silences
        body = self._request(entry, is_doomed=is_doomed)
        book.count("asked")
        if fate < habits.cuts:
            entry.asked_at = await self._wires[0].send_and_die("POST", "/v1/holds", body)
            entry.lapses_at = entry.asked_at
            book.count("cut")
            return False
        hold = await self._granted(entry, body)
        if hold is None:
            return False
        bound = hold["max_output_tokens"]
        assert bound is None or isinstance(bound, int)
        if is_doomed:
            self._die(entry, bound, has_called=fate >= habits.cuts + habits.deaths)
        elif rng.random() < habits.voids:
            await self._end(entry, hold, "void", {})
            book.count("voided")
        else:
            await asyncio.sleep(rng.uniform(0.001, 0.02))
            bill = self._kind.bill(rng, bound)
            entry.spent_nusd = entry.reported_nusd = bill.cost_nusd
            await self._end(entry, hold, "settle", {"idempotency_key": entry.key, **bill.report})
        return True

    def close(self) -> None:
        """Cut both connections."""
        for wire in self._wires:
            wire.cut()

    def _request(self, entry: Entry, *, is_doomed: bool) -> Body:
        body = {"idempotency_key": entry.key, "agent": self._agent, **MODEL, **self._kind.asks}
        return body | {"deadline_s": DEAD_AFTER_S, "grace_s": DEAD_AFTER_S} if is_doomed else body

    async def _granted(self, entry: Entry, body: Body) -> Mapping[str, object] | None:
        """Ask for a hold, some of them twice at once; return it, None if it was refused."""
        entry.asked_at = time.perf_counter()
        answers = await self._sent("/v1/holds", body)
        holds = [answer for answer in answers if answer.status in {200, 201}]
        for answer in answers:
            if answer.status == 402:
                self._refused(entry, answer)
            else:
                self._book.expect(that=answer in holds, sentence=f"authorise: {answer.status} {answer.body}")
        if not holds:
            entry.is_refused = True
            return None
        hold = holds[0].body
        ids = {one.body["id"] for one in holds}
        self._book.expect(that=len(ids) == 1, sentence=f"two holds for the key {entry.key}")
        entry.worst_nusd = nusd_from_text(cast("str", hold["amount_usd"]))
        entry.granted_at = min(answer.answered_at for answer in holds)
        self._book.count("granted")
        return hold

    def _refused(self, entry: Entry, answer: Answer) -> None:
        self._book.count("refused")
        asked = cast("str", answer.body["asked"])
        reason = answer.body["reason"]
        self._book.expect(that=reason == "no_room", sentence=f"refused for {reason}")
        refusal = Refusal(entry.key, nusd_from_text(asked), answer.asked_at, answer.answered_at)
        self._book.refusals.append(refusal)

    def _die(self, entry: Entry, bound: int | None, *, has_called: bool) -> None:
        """Go away with the hold, before the provider was called or after."""
        entry.lapses_at = entry.asked_at + 2 * DEAD_AFTER_S
        if has_called:
            entry.spent_nusd = self._kind.bill(self._rng, bound).cost_nusd
        self._book.count("died after the call" if has_called else "died")
        self.close()

    async def _end(self, entry: Entry, hold: Mapping[str, object], how: str, body: Body) -> None:
        """Settle or void the hold, some of them twice at once; both must be told the same."""
        entry.ending_at = time.perf_counter()
        answers = await self._sent(f"/v1/holds/{hold['id']}/{how}", body)
        entry.ended_at = min(answer.answered_at for answer in answers)
        for answer in answers:
            self._book.expect(that=answer.status == 200, sentence=f"{how}: {answer.status} {answer.body}")

    async def _sent(self, path: str, body: Body) -> list[Answer]:
        is_twice = self._rng.random() < self._habits.repeats
        wires = self._wires if is_twice else self._wires[:1]
        answers = await asyncio.gather(*(wire.ask("POST", path, body) for wire in wires))
        for _ in answers[1:]:
            self._book.count("sent twice")
        again = sum(answer.attempts - 1 for answer in answers)
        for _ in range(again):
            self._book.count("asked again")
        return answers
