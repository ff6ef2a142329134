"""Read the logs that Claude Code keeps on the machine where it runs.

    ~/.claude/projects/**/*.jsonl  →  UsageEvent, one an answer  →  ingestion

Each answer of a model stands on several lines, one a content block, whose counts grow
while it is written; the largest ones are its usage. Resumed sessions and sub-agents
repeat whole stretches of other files. So lines are joined by message id and request id,
within a file and over all files of one import, and the event's key is made of the two:
however often a call is met, it is one event.

    - `occurred_at` is the time of the answer's first line, so it stays when counts grow.
    - `revision` grows with the counts: a call imported half-written is corrected by the
      next import and never set back by an older copy (`revision_of`).

Not here: which files are new (`cursor`), prices, the ledger.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from bursar.capture import checks
from bursar.capture.reading import Line, Meter, OnProgress, Problem, Tally, read_lines, size_of
from bursar.core.errors import AppError, InvalidInput
from bursar.core.ids import key_from_text
from bursar.core.usage import NO_TEXT, Billing, ServiceTier, Source, Subject, UsageEvent

PENDING_MAX = 8_192
"""Answers of one file held back for further lines; the oldest half is then given."""

_ASIDE_PREFIX = "agent-aside_question"
_SYNTHETIC = "<synthetic>"
_SEARCHES_IN_REVISION_MAX = 255
_REVISION_TOKENS_SHIFT = 10


class ClaudeCodeOptions(NamedTuple):
    """How the events are to be named.

    Attributes:
        agent: The agent that all answers are booked on.
        provider: Who answered; change it for logs written behind another endpoint.
        project: For all events; None takes the last part of each line's working directory.
        billing: `SUBSCRIPTION` for a plan, whose calls cost nothing each.
    """

    agent: str = "claude-code"
    provider: str = "anthropic"
    project: str | None = None
    feature: str = NO_TEXT
    user: str = NO_TEXT
    billing: Billing = Billing.METERED

    @property
    def settings(self) -> str:
        """A text over all options, for `ImportCursor`: under other ones the files count as unread."""
        return repr(tuple(self))


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None


class _Answer(msgspec.Struct, gc=False, rename="camel"):
    """The fields of an `assistant` line that matter; all others are passed over unread."""

    message: _Message
    timestamp: str | None = None
    session_id: str | None = None
    uuid: str | None = None
    request_id: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    version: str | None = None
    agent_id: str | None = None
    is_sidechain: bool | None = None
    is_api_error_message: bool | None = None
    cost: Decimal | None = msgspec.field(default=None, name="costUSD")


class _Kind(msgspec.Struct, gc=False):
    """A first, cheap look: most lines are no answers and may look as they like."""

    type: object = None


class _Counts(NamedTuple):
    """The checked, disjoint counts of one line."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    web_searches: int
    is_split: bool

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write_5m + self.cache_write_1h


class _Pending(NamedTuple):
    """The best line of one answer so far, and when its first line was written."""

    occurred_at: int
    revision: int
    answer: _Answer
    counts: _Counts


class _Given(NamedTuple):
    """What was last given under a key."""

    revision: int
    occurred_at: int


_KIND = msgspec.json.Decoder(_Kind)
_ANSWER = msgspec.json.Decoder(_Answer)


def default_roots(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Return where logs are kept: `CLAUDE_CONFIG_DIR` (commas part several), else the two usual places."""
    configured = [part.strip() for part in environ.get("CLAUDE_CONFIG_DIR", "").split(",") if part.strip()]
    if configured:
        return [Path(part) for part in configured]
    config_home = environ.get("XDG_CONFIG_HOME")
    return [home / ".claude", (Path(config_home) if config_home else home / ".config") / "claude"]


def find_logs(roots: Sequence[Path], tally: Tally) -> list[Path]:
    """Return the log files under `roots`, each once, oldest change first.

    A root is a configuration folder (its `projects` is taken), any other folder, or one
    file. Files of side questions are left out: they repeat their session's history under
    other ids. Oldest first, so that a call belongs to the session it was made in and not
    to a later one that repeats it.
    """
    found: dict[tuple[int, int], tuple[int, str, Path]] = {}
    for root in roots:
        for path in _walk(root):
            if path.name.startswith(_ASIDE_PREFIX):
                tally.skipped_files += 1
                continue
            try:
                status = path.stat()
            except OSError as error:
                tally.refuse(Problem(str(path), 0, f"cannot be read: {error.strerror}"))
                continue
            found.setdefault((status.st_dev, status.st_ino), (status.st_mtime_ns, str(path), path))
    return [path for _, _, path in sorted(found.values())]


def _walk(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    projects = root / "projects"
    for folder, _, names in os.walk(projects if projects.is_dir() else root):
        for name in names:
            if name.endswith(".jsonl"):
                yield Path(folder, name)


def read_logs(
    paths: Sequence[Path],
    options: ClaudeCodeOptions,
    tally: Tally,
    on_progress: OnProgress | None = None,
) -> Iterator[UsageEvent]:
    """Yield one event for each answer in `paths`, in the order of the files.

    An answer met again with larger counts, further down or in another file, is yielded
    again with a higher `revision`. Memory is one small tuple per distinct answer plus
    8,192 held answers, whatever the files' size. Nothing in a file raises: faults are
    counted in `tally`.
    """
    reader = _Reader(options, tally)
    meter = Meter(sum(size_of(path) for path in paths), on_progress)
    for path in paths:
        try:
            with path.open("rb") as file:
                tally.files += 1
                yield from reader.read(str(path), file, meter)
        except OSError as error:
            tally.refuse(Problem(str(path), 0, f"cannot be read: {error.strerror}"))
    meter.finish()


def revision_of(tokens: int, web_searches: int, *, is_split: bool, has_cost: bool) -> int:
    """Return the revision of an answer's line: the higher, the more it says.

    All tokens together count first, then web searches, then whether the cache writes are
    split by lifetime, then whether a cost is said. So equal revisions mean equal counts,
    and the order in which copies are met does not matter.
    """
    searches = min(web_searches, _SEARCHES_IN_REVISION_MAX)
    return tokens << _REVISION_TOKENS_SHIFT | searches << 2 | is_split << 1 | has_cost


class _Reader:
    """Joins the lines of answers over all files of one import."""

    def __init__(self, options: ClaudeCodeOptions, tally: Tally) -> None:
        self._options = options
        self._tally = tally
        self._given: dict[bytes, _Given] = {}

    def read(self, path: str, file: BinaryIO, meter: Meter) -> Iterator[UsageEvent]:
        pending: dict[bytes, _Pending] = {}
        for line in read_lines(file, meter):
            try:
                self._take(line, pending)
            except InvalidInput as error:
                if line.is_ended:
                    self._tally.refuse(Problem(path, line.number, error.detail, error.field or ""))
                else:
                    self._tally.unfinished += 1
            if len(pending) > PENDING_MAX:
                yield from self._give(pending, PENDING_MAX // 2)
        yield from self._give(pending, len(pending))

    def _take(self, line: Line, pending: dict[bytes, _Pending]) -> None:
        if line.content is None:
            self._tally.lines += 1
            raise InvalidInput("the line is too long")
        if not line.content.strip(b"\x00 \t"):
            return
        self._tally.lines += 1
        answer = _answer_from_line(line.content)
        if answer is None:
            return
        if answer.message.model == _SYNTHETIC:
            self._count_no_call(answer)
            return
        if answer.message.usage is None:
            self._count_no_call(answer)
            return
        new = _pending_from_answer(answer, answer.message.usage)
        key = key_from_text(_key_text(answer, new.counts))
        old = pending.get(key)
        if old is not None:
            self._tally.repeated += 1
            best = new if new.revision > old.revision else old
            new = best._replace(occurred_at=min(old.occurred_at, new.occurred_at))
        pending[key] = new

    def _count_no_call(self, answer: _Answer) -> None:
        if answer.is_api_error_message:
            self._tally.api_errors += 1
        else:
            self._tally.no_call += 1

    def _give(self, pending: dict[bytes, _Pending], count: int) -> Iterator[UsageEvent]:
        for key in list(pending)[:count]:
            best = pending.pop(key)
            given = self._given.get(key)
            if given is not None and given.revision >= best.revision:
                self._tally.repeated += 1
                continue
            if given is None:
                self._tally.events += 1
            else:
                self._tally.revised += 1
                self._tally.tokens -= given.revision >> _REVISION_TOKENS_SHIFT
                best = best._replace(occurred_at=min(given.occurred_at, best.occurred_at))
            self._tally.tokens += best.counts.tokens
            self._given[key] = _Given(best.revision, best.occurred_at)
            yield _event(key, best, self._options)


def _answer_from_line(content: bytes) -> _Answer | None:
    """Return the answer on a line, None for a line of another kind.

    Bytes that are no UTF-8 (a crash in the middle of a character) are replaced; they can
    only stand in texts, never in a count.
    """
    try:
        if _KIND.decode(content).type != "assistant":
            return None
        return _ANSWER.decode(content)
    except UnicodeDecodeError:
        return _answer_from_line(content.decode("utf-8", "replace").encode())
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"not a readable answer: {error}") from None


def _pending_from_answer(answer: _Answer, usage: _Usage) -> _Pending:
    counts = _counts(usage)
    checks.name(answer.message.model, "model")
    checks.optional_name(answer.session_id, "sessionId")
    checks.cost_nusd(answer.cost, "costUSD")
    return _Pending(
        checks.occurred_at(answer.timestamp, "timestamp"),
        revision_of(
            counts.tokens,
            counts.web_searches,
            is_split=counts.is_split,
            has_cost=answer.cost is not None,
        ),
        answer,
        counts,
    )


def _counts(usage: _Usage) -> _Counts:
    """Return the counts of a line, cache writes apart by their lifetime.

    The sum of cache writes is the older field; what its split does not cover (all of it
    in older logs) lived 5 minutes, the only lifetime there was.
    """
    created = checks.count(usage.cache_creation_input_tokens or 0, "cache_creation_input_tokens")
    split = usage.cache_creation or _CacheCreation()
    write_1h = checks.count(split.ephemeral_1h_input_tokens or 0, "ephemeral_1h_input_tokens")
    write_5m = checks.count(split.ephemeral_5m_input_tokens or 0, "ephemeral_5m_input_tokens")
    tools = usage.server_tool_use or _ServerTools()
    return _Counts(
        input=checks.count(usage.input_tokens or 0, "input_tokens"),
        output=checks.count(usage.output_tokens or 0, "output_tokens"),
        cache_read=checks.count(usage.cache_read_input_tokens or 0, "cache_read_input_tokens"),
        cache_write_5m=max(created - write_1h, write_5m),
        cache_write_1h=write_1h,
        web_searches=checks.count(tools.web_search_requests or 0, "web_search_requests"),
        is_split=usage.cache_creation is not None,
    )


def _key_text(answer: _Answer, counts: _Counts) -> str:
    """Return what makes the answer the same one in every copy.

    Third-party endpoints give no request id, the oldest logs no message id; then what is
    left must do.
    """
    if answer.message.id and answer.request_id:
        return f"claude_code:{answer.message.id}:{answer.request_id}"
    if answer.message.id:
        return f"claude_code:{answer.message.id}"
    if answer.uuid:
        return f"claude_code:line:{answer.uuid}"
    said = f"{answer.session_id}|{answer.timestamp}|{answer.message.model}|{counts}"
    return f"claude_code:content:{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


def _event(key: bytes, best: _Pending, options: ClaudeCodeOptions) -> UsageEvent:
    answer, counts = best.answer, best.counts
    session = answer.session_id or NO_TEXT
    usage = answer.message.usage or _Usage()
    return UsageEvent(
        key=key,
        revision=best.revision,
        occurred_at=best.occurred_at,
        subject=Subject(
            agent=options.agent,
            provider=options.provider,
            model=answer.message.model or NO_TEXT,
            project=_project(answer.cwd) if options.project is None else options.project,
            feature=options.feature,
            user=options.user,
        ),
        source=Source.CLAUDE_CODE,
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.cache_read,
        cache_write_5m_tokens=counts.cache_write_5m,
        cache_write_1h_tokens=counts.cache_write_1h,
        web_searches=counts.web_searches,
        reported_nusd=checks.cost_nusd(answer.cost, "costUSD"),
        is_error=bool(answer.is_api_error_message),
        billing=options.billing,
        service_tier=checks.SERVICE_TIERS.get(usage.service_tier or "", ServiceTier.STANDARD),
        run=session,
        session=session,
        attributes=_attributes(answer, usage),
    )


def _project(cwd: str | None) -> str:
    """Return the last part of a working directory of either kind of system."""
    last = (cwd or NO_TEXT).replace("\\", "/").rstrip("/").rpartition("/")[2]
    try:
        return checks.optional_name(last, "cwd")
    except AppError:
        return NO_TEXT


def _attributes(answer: _Answer, usage: _Usage) -> dict[str, object] | None:
    said = {
        "message_id": answer.message.id,
        "request_id": answer.request_id,
        "uuid": answer.uuid,
        "cwd": answer.cwd,
        "git_branch": answer.git_branch,
        "version": answer.version,
        "is_sidechain": answer.is_sidechain or None,
        "agent_id": answer.agent_id,
        # A tier we know is a column; only an unknown one has to be kept as text.
        "service_tier": usage.service_tier if usage.service_tier not in checks.SERVICE_TIERS else None,
    }
    return checks.attributes({name: value for name, value in said.items() if value is not None}, "attributes")
