"""A made-up folder of Claude Code logs with every trap we know, and what it must give.

The figures are added up from what the generator meant to say, answer by answer; nothing
here reads a log back. `Expected.ccusage_differs` says, cause by cause, what has to be
added to the figures of ccusage 17 to come to ours.
"""

import json
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

MODELS = (
    "claude-sonnet-4-20250514",
    "claude-opus-4-1-20250805",
    "claude-haiku-4-5-20251001",
)
PROJECTS = {"/home/ada/shop": "-home-ada-shop", "/home/ada/tools/lint": "-home-ada-tools-lint"}
FIRST_SNAPSHOT = "first snapshot kept"
NO_REQUEST_ID = "no request id"
ASIDE = "side question"


class Counts(NamedTuple):
    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    def plus(self, other: "Counts", sign: int = 1) -> "Counts":
        return Counts(*(a + sign * b for a, b in zip(self, other, strict=True)))


DayModel = tuple[str, str]


@dataclass
class Answer:
    """One call as it was made; `lines` are its copies: (time, counts, stands in an aside file)."""

    message_id: str
    request_id: str | None
    model: str
    write_1h: int = 0
    web_searches: int = 0
    has_split: bool = True
    cost_usd: str | None = None
    service_tier: str | None = "standard"
    lines: list[tuple[datetime, Counts, bool]] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        return any(not is_aside for _, _, is_aside in self.lines)

    @property
    def largest(self) -> Counts:
        return max((counts for _, counts, is_aside in self.lines if not is_aside), key=sum)

    @property
    def day_model(self) -> DayModel:
        first = min(when for when, _, _ in self.lines)
        return first.strftime("%Y-%m-%d"), self.model


@dataclass
class Expected:
    daily: dict[DayModel, Counts]
    requests: Counter[DayModel]
    ccusage_differs: dict[str, dict[DayModel, Counts]]
    answers: int
    tokens: int
    write_1h: int
    web_searches: int
    no_call: int
    api_errors: int
    refused: int
    unfinished: int
    skipped_files: int


def stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def line_of(answer: Answer, when: datetime, counts: Counts, *, session: str, cwd: str, **more: object) -> str:
    """Return one log line, shaped as Claude Code writes it."""
    usage: dict[str, object] = {
        "input_tokens": counts.input,
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "output_tokens": counts.output,
        "service_tier": answer.service_tier,
    }
    if answer.has_split:
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": counts.cache_write - answer.write_1h,
            "ephemeral_1h_input_tokens": answer.write_1h,
        }
    if answer.web_searches:
        usage["server_tool_use"] = {"web_search_requests": answer.web_searches}
    line: dict[str, object] = {
        "parentUuid": None,
        "isSidechain": False,
        "userType": "external",
        "cwd": cwd,
        "sessionId": session,
        "version": "1.0.89",
        "gitBranch": "main",
        "message": {
            "id": answer.message_id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [{"type": "text", "text": 'Done “so far”: {"usage": 1}'}],
            "stop_reason": None,
            "usage": usage,
        },
        "type": "assistant",
        "uuid": f"u-{answer.message_id}-{int(when.timestamp() * 1000)}",
        "timestamp": stamp(when),
    }
    if answer.request_id is not None:
        line["requestId"] = answer.request_id
    text = json.dumps(line | more, ensure_ascii=False)
    if answer.cost_usd is not None:
        text = text[:-1] + f', "costUSD": {answer.cost_usd}}}'
    return text


class LogFolder:
    """Writes one configuration folder (`root/projects/…`) and remembers what it meant."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        self.root = root
        self._random = Random(seed)  # noqa: S311 - made-up traffic, repeatable on purpose
        self._answers: list[Answer] = []
        self._now = datetime(2025, 10, 9, 21, 30, tzinfo=UTC)
        self._counts: Counter[str] = Counter()
        self._mtime = 1_760_000_000

    def session(self, cwd: str, answers: int = 12, **traits: object) -> tuple[list[str], str]:
        """Return the lines of a session with `answers` calls, and its id."""
        session = f"5e55{self._random.getrandbits(48):012x}"
        lines = [json.dumps({"type": "summary", "summary": "A chat", "leafUuid": "x"})]
        for _ in range(answers):
            lines += [self._user_line(session, cwd), *self.answer_lines(session, cwd, **traits)]
        return lines, session

    def answer_lines(self, session: str, cwd: str, **traits: object) -> list[str]:
        """Return the lines of one new answer: one to four, the output growing."""
        answer = self._new_answer(dict(traits))
        more = {"isSidechain": True, "agentId": "a1b2"} if traits.get("sidechain") else {}
        final = Counts(
            self._random.randrange(2, 4_000),
            self._random.randrange(50, 3_000),
            self._random.choice([0, 0, 9_000, self._random.randrange(100, 30_000)]),
            self._random.randrange(0, 120_000),
        )
        if answer.has_split and self._random.random() < 0.3:
            answer.write_1h = final.cache_write // 3
        lines = []
        steps = self._random.choice([1, 2, 3, 4])
        for step in range(steps):
            output = final.output if step == steps - 1 else min(final.output, 1 + 7 * step)
            lines.append(self._say(answer, final._replace(output=output), session, cwd, more))
            self._now += timedelta(milliseconds=self._random.randrange(100, 4_000))
        self._now += timedelta(seconds=self._random.randrange(5, 600))
        return lines

    def write(self, folder: str, name: str, lines: list[str | bytes]) -> Path:
        """Write one log, each line ended but a half-written last one given as bytes."""
        path = self.root / "projects" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for line in lines:
                file.write(line if isinstance(line, bytes) else line.encode() + b"\n")
        self._mtime += 60
        os.utime(path, (self._mtime, self._mtime))
        return path

    def expected(self) -> Expected:
        """Add up what the logs must give."""
        daily: dict[DayModel, Counts] = defaultdict(Counts)
        requests: Counter[DayModel] = Counter()
        differs: dict[str, dict[DayModel, Counts]] = defaultdict(lambda: defaultdict(Counts))
        ours = [answer for answer in self._answers if answer.is_ours]
        for answer in ours:
            daily[answer.day_model] = daily[answer.day_model].plus(answer.largest)
            requests[answer.day_model] += 1
        for answer in self._answers:
            for cause, counts in _differences(answer):
                differs[cause][answer.day_model] = differs[cause][answer.day_model].plus(counts)
        return Expected(
            daily=dict(daily),
            requests=requests,
            ccusage_differs={cause: dict(by) for cause, by in differs.items()},
            answers=len(ours),
            tokens=sum(sum(answer.largest) for answer in ours),
            write_1h=sum(answer.write_1h for answer in ours),
            web_searches=sum(answer.web_searches for answer in ours),
            **{
                name: self._counts[name]
                for name in ("no_call", "api_errors", "refused", "unfinished", "skipped_files")
            },
        )

    def repeat(self, lines: list[str], session: str, *, is_aside: bool = False) -> list[str]:
        """Return `lines` as a resumed session repeats them; as a side question does, without request ids."""
        repeated = []
        for text in lines:
            line = json.loads(text) | {"sessionId": session}
            if is_aside and line.pop("requestId", None):
                self._count_aside(line)
            repeated.append(json.dumps(line, ensure_ascii=False))
        return repeated

    def build(self) -> Expected:
        """Write the whole folder."""
        shop, lint = PROJECTS
        first, first_id = self.session(shop)
        self.write(
            PROJECTS[shop],
            f"{first_id}.jsonl",
            [*first, self._synthetic(first_id), self._api_error(first_id)],
        )
        more, more_id = self.session(shop, 6)
        self.write(PROJECTS[shop], f"{more_id}.jsonl", [*self.repeat(first, more_id), *more])
        side, _ = self.session(shop, 8, sidechain=True)
        self.write(PROJECTS[shop], f"{first_id}/subagents/agent-a1b2.jsonl", [*side])
        aside = self.repeat(first[:9], first_id, is_aside=True)
        self.write(PROJECTS[shop], f"{first_id}/subagents/agent-aside_question-c0ffee.jsonl", [*aside])
        self._counts["skipped_files"] += 1
        old, old_id = self.session(
            lint, 5, has_split=False, service_tier=None, cost_usd="0.012345678901234567"
        )
        self.write(PROJECTS[lint], f"{old_id}.jsonl", [*old])
        third, third_id = self.session(lint, 5, request_id=None)
        self.write(PROJECTS[lint], f"{third_id}.jsonl", [*third])
        midnight = self._midnight_session(lint)
        self.write(PROJECTS[lint], "broken.jsonl", [*midnight, *self._broken_lines(lint)])
        cut, cut_id = self.session(lint, 3)
        self.write(PROJECTS[lint], f"{cut_id}.jsonl", [*cut, b'{"type":"assistant","message":{"id":"msg_ha'])
        self._counts["unfinished"] += 1
        return self.expected()

    def _new_answer(self, traits: dict[str, object]) -> Answer:
        number = len(self._answers)
        answer = Answer(f"msg_{number:05d}", f"req_{number:05d}", self._random.choice(MODELS))
        for name in ("has_split", "service_tier", "cost_usd", "request_id"):
            if name in traits:
                setattr(answer, name, traits[name])
        if self._random.random() < 0.1:
            answer.web_searches = self._random.randrange(1, 4)
        self._answers.append(answer)
        return answer

    def _say(self, answer: Answer, counts: Counts, session: str, cwd: str, more: dict[str, object]) -> str:
        answer.lines.append((self._now, counts, False))
        return line_of(answer, self._now, counts, session=session, cwd=cwd, **more)

    def _count_aside(self, line: dict[str, object]) -> None:
        message = line["message"]
        assert isinstance(message, dict)
        answer = next(known for known in self._answers if known.message_id == message["id"])
        when = datetime.fromisoformat(str(line["timestamp"]))
        counts = next(said for at, said, _ in answer.lines if stamp(at) == stamp(when))
        answer.lines.append((when, counts, True))

    def _midnight_session(self, cwd: str) -> list[str]:
        """Return one answer begun before and ended after midnight UTC: it belongs to the day it began."""
        answer = self._new_answer({})
        answer.model = MODELS[1]
        begin = datetime(2025, 10, 10, 23, 59, 59, 900_000, tzinfo=UTC)
        self._now = begin
        lines = [self._say(answer, Counts(11, 3, 500, 70_000), "midnight", cwd, {})]
        self._now = begin + timedelta(seconds=2)
        return [*lines, self._say(answer, Counts(11, 1_900, 500, 70_000), "midnight", cwd, {})]

    def _broken_lines(self, cwd: str) -> list[str | bytes]:
        """Return what crashes and foreign hands leave behind, and three good answers among it."""
        good = [self.answer_lines("broken", cwd) for _ in range(2)]
        spoilt = self.answer_lines("broken", cwd)
        not_utf8 = b"".join(
            line.encode().replace(b"Done", b"\xff\xfe\xed\xa0\x80") + b"\n" for line in spoilt
        )
        negative = line_of(
            Answer("msg_neg", "req_neg", MODELS[0]), self._now, Counts(-5, 1), session="b", cwd=cwd
        )
        self._counts["refused"] += 6
        return [
            *good[0],
            '{"type":"assistant","message":{"id":"msg_torn","usage":{"input_tok',
            "not json at all",
            "[1, 2, 3]",
            '{"type":"assistant","message":"text"}',
            "",
            b"\x00\x00\x00\x00\n",
            not_utf8,
            negative.replace('"input_tokens": -5', '"input_tokens": "many"'),
            "[" * 100_000,
            json.dumps({"type": "user", "message": {"content": "x" * 2_000_000}, "timestamp": 5}),
            *good[1],
        ]

    def _user_line(self, session: str, cwd: str) -> str:
        message = {"role": "user", "content": 'Why does "type":"assistant" cost so much?'}
        self._now += timedelta(seconds=1)
        line = {
            "type": "user",
            "message": message,
            "sessionId": session,
            "cwd": cwd,
            "timestamp": stamp(self._now),
        }
        return json.dumps(line)

    def _synthetic(self, session: str) -> str:
        self._counts["no_call"] += 1
        answer = Answer("synthetic-1", None, "<synthetic>")
        return line_of(answer, self._now, Counts(), session=session, cwd="/home/ada/shop")

    def _api_error(self, session: str) -> str:
        self._counts["api_errors"] += 1
        answer = Answer("synthetic-2", None, "<synthetic>")
        return line_of(
            answer, self._now, Counts(), session=session, cwd="/home/ada/shop", isApiErrorMessage=True
        )


def _differences(answer: Answer) -> list[tuple[str, Counts]]:
    """Return what has to be added to ccusage's figures of this answer, by cause."""
    own = [counts for _, counts, is_aside in answer.lines if not is_aside]
    aside = [counts for _, counts, is_aside in answer.lines if is_aside]
    found = [(ASIDE, Counts().plus(counts, -1)) for counts in aside]
    if not own:
        return found
    if answer.request_id is not None:
        return [*found, (FIRST_SNAPSHOT, answer.largest.plus(own[0], -1))]
    counted = Counts()
    for counts in own:
        counted = counted.plus(counts)
    return [*found, (NO_REQUEST_ID, answer.largest.plus(counted, -1))]
