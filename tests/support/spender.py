"""A desk that spends from budgets: holds, settlements and time, over the whole app.

with open_desk(tmp_path) as desk:
    spender = Spender(desk)
    spender.settle(spender.hold(10), 7)
"""

from bursar.budgets.amounts import Amounts
from bursar.budgets.hold import Granted, Hold, Request
from bursar.budgets.matching import Call
from bursar.core.ids import new_id
from bursar.core.time import MICROS_PER_HOUR, MICROS_PER_MINUTE, text_from_micros
from bursar.enforcement.questions import Authorise, Settle
from support.desk import NOW, Desk

CENT = 10_000_000
BOT = Call(agent="bot", provider="openai", model="gpt-4o")


class Spender:
    """A desk whose clock is moved by hand, with one budget of a dollar a day."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.now = NOW + MICROS_PER_HOUR
        enforcement = desk.treasury.enforcement
        enforcement._clock = enforcement._monotonic = lambda: self.now
        self.budget = self.create(name="daily", limit="1.00")

    def create(self, **fields: object) -> str:
        made = self.desk.post("/v1/budgets", fields)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def hold(self, cents: int, call: Call = BOT) -> Hold:
        request = Request(
            hold_id=new_id(), key=new_id(), digest=b"d", call=call, amounts=Amounts(cents * CENT)
        )
        answer = self.ask(Authorise(request))
        assert isinstance(answer, Granted)
        return answer.hold

    def ask(self, question: object) -> object:
        return self.desk.run(self.desk.treasury.enforcement.desk.ask(self.desk.org, question))

    def settle(self, hold: Hold, cents: int) -> None:
        self.ask(Settle(hold.id, Amounts(cents * CENT), self.now))

    def pass_minutes(self, minutes: int = 1) -> str:
        """Let time pass; return the moment before it."""
        moment = text_from_micros(self.now)
        self.now += minutes * MICROS_PER_MINUTE
        return moment

    def explain(self, budget: str = "", **params: str) -> dict[str, object]:
        answer = self.desk.get(f"/v1/budgets/{budget or self.budget}/explain", **params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
