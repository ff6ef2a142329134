import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from claude_logs import MODELS, Answer, Counts, DayModel, LogFolder, line_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.capture.claude_code import (
    PENDING_MAX,
    ClaudeCodeOptions,
    default_roots,
    find_logs,
    read_logs,
)
from bursar.capture.reading import Tally
from bursar.core.usage import Billing, ServiceTier, Source, UsageEvent

NOON = datetime(2025, 10, 9, 12, tzinfo=UTC)


def imported(*roots: Path, options: ClaudeCodeOptions | None = None) -> tuple[dict[bytes, UsageEvent], Tally]:
    """Read as an import does: of each key, the highest revision stands."""
    tally = Tally()
    newest: dict[bytes, UsageEvent] = {}
    for event in read_logs(find_logs(roots, tally), options or ClaudeCodeOptions(), tally):
        if event.key not in newest or event.revision > newest[event.key].revision:
            newest[event.key] = event
    return newest, tally


def daily(events: dict[bytes, UsageEvent]) -> dict[DayModel, Counts]:
    found: dict[DayModel, Counts] = defaultdict(Counts)
    for event in events.values():
        write = event.cache_write_5m_tokens + event.cache_write_1h_tokens
        counts = Counts(event.input_tokens, event.output_tokens, write, event.cache_read_tokens)
        key = day_model(event)
        found[key] = found[key].plus(counts)
    return dict(found)


def day_model(event: UsageEvent) -> DayModel:
    day = datetime.fromtimestamp(event.occurred_at // 1_000_000, UTC).strftime("%Y-%m-%d")
    return day, event.subject.model


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + end)
    return path


def said(counts: Counts, *, seconds: float = 0, **traits: object) -> str:
    """Return a line of one and the same answer."""
    more = {name: traits.pop(name) for name in list(traits) if name not in Answer.__dataclass_fields__}
    given = {"message_id": "msg_1", "request_id": "req_1", "model": MODELS[0]} | traits
    answer = Answer(**given)  # type: ignore[arg-type]
    when = NOON + timedelta(seconds=seconds)
    return line_of(answer, when, counts, session="s1", cwd="/home/ada/shop", **more)


def only(events: dict[bytes, UsageEvent]) -> UsageEvent:
    (event,) = events.values()
    return event


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_folder_with_every_trap_gives_exactly_the_calls_that_were_made(tmp_path: Path, seed: int) -> None:
    expected = LogFolder(tmp_path, seed).build()
    events, _ = imported(tmp_path)
    assert daily(events) == expected.daily
    assert Counter(day_model(event) for event in events.values()) == expected.requests
    assert sum(event.cache_write_1h_tokens for event in events.values()) == expected.write_1h
    assert sum(event.web_searches for event in events.values()) == expected.web_searches


def test_the_tally_says_what_was_left_out_and_why(tmp_path: Path) -> None:
    expected = LogFolder(tmp_path).build()
    events, tally = imported(tmp_path)
    assert (tally.events, tally.tokens) == (expected.answers, expected.tokens)
    assert tally.events == len(events)
    assert (tally.no_call, tally.api_errors) == (expected.no_call, expected.api_errors)
    assert (tally.refused, tally.unfinished) == (expected.refused, expected.unfinished)
    assert tally.skipped_files == expected.skipped_files
    assert len(tally.problems) == tally.refused
    assert all("broken.jsonl:" in str(problem) for problem in tally.problems)


def test_two_reads_give_the_same_events(tmp_path: Path) -> None:
    LogFolder(tmp_path).build()
    assert imported(tmp_path)[0] == imported(tmp_path)[0]


def test_the_largest_counts_of_an_answer_count_and_its_first_line_dates_it(tmp_path: Path) -> None:
    lines = [said(Counts(5, 1)), said(Counts(5, 900), seconds=3), said(Counts(5, 40), seconds=4)]
    events, tally = imported(write(tmp_path / "a.jsonl", *lines))
    event = only(events)
    assert (event.input_tokens, event.output_tokens) == (5, 900)
    assert event.occurred_at == int(NOON.timestamp()) * 1_000_000
    assert tally.repeated == 2


def test_an_answer_imported_half_written_is_corrected_by_a_higher_revision(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", said(Counts(5, 1)))
    early = only(imported(path)[0])
    write(path, said(Counts(5, 1)), said(Counts(5, 900), seconds=3))
    late = only(imported(path)[0])
    assert late.key == early.key
    assert late.revision > early.revision
    assert late.occurred_at == early.occurred_at


def test_a_larger_copy_in_a_later_file_is_given_again_as_a_revision(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    folder.write("p", "old.jsonl", [said(Counts(5, 1))])
    folder.write("p", "new.jsonl", [said(Counts(5, 1)), said(Counts(5, 900), seconds=3)])
    tally = Tally()
    events = list(read_logs(find_logs([tmp_path], tally), ClaudeCodeOptions(), tally))
    assert [event.output_tokens for event in events] == [1, 900]
    assert events[0].revision < events[1].revision
    assert (tally.events, tally.revised, tally.tokens) == (1, 1, 905)


def test_an_equal_copy_in_a_later_file_is_not_given_again(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    folder.write("p", "old.jsonl", [said(Counts(5, 900))])
    folder.write("p", "resumed.jsonl", [said(Counts(5, 900))])
    tally = Tally()
    events = list(read_logs(find_logs([tmp_path], tally), ClaudeCodeOptions(), tally))
    assert len(events) == 1
    assert (tally.events, tally.revised, tally.repeated) == (1, 0, 1)


def test_a_revision_keeps_the_time_of_the_first_line_in_an_older_file(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    folder.write("p", "old.jsonl", [said(Counts(5, 1))])
    folder.write("p", "new.jsonl", [said(Counts(5, 900), seconds=3)])
    tally = Tally()
    first, second = read_logs(find_logs([tmp_path], tally), ClaudeCodeOptions(), tally)
    assert first.occurred_at == second.occurred_at


def test_a_split_of_cache_writes_counts_also_without_their_sum(tmp_path: Path) -> None:
    line = said(Counts(5, 1, 600), write_1h=400).replace('"cache_creation_input_tokens": 600, ', "")
    event = only(imported(write(tmp_path / "a.jsonl", line))[0])
    assert (event.cache_write_5m_tokens, event.cache_write_1h_tokens) == (200, 400)


def test_copies_give_the_same_event_in_whatever_order_they_are_met(tmp_path: Path) -> None:
    lines = [said(Counts(5, 1)), said(Counts(5, 900), seconds=3), said(Counts(5, 900), seconds=5)]
    forward = only(imported(write(tmp_path / "a.jsonl", *lines))[0])
    backward = only(imported(write(tmp_path / "b.jsonl", *reversed(lines)))[0])
    assert (forward.revision, forward.occurred_at) == (backward.revision, backward.occurred_at)
    assert forward.tokens_total == backward.tokens_total


def test_a_line_that_says_how_long_cache_writes_live_outranks_one_that_does_not(tmp_path: Path) -> None:
    counts = Counts(5, 10, 600, 0)
    lines = [said(counts, has_split=False), said(counts, write_1h=400), said(counts, has_split=False)]
    event = only(imported(write(tmp_path / "a.jsonl", *lines))[0])
    assert (event.cache_write_5m_tokens, event.cache_write_1h_tokens) == (200, 400)


def test_cache_writes_without_a_split_lived_five_minutes(tmp_path: Path) -> None:
    event = only(imported(write(tmp_path / "a.jsonl", said(Counts(5, 10, 600), has_split=False)))[0])
    assert (event.cache_write_5m_tokens, event.cache_write_1h_tokens) == (600, 0)


def test_without_a_request_id_the_message_id_alone_joins_lines(tmp_path: Path) -> None:
    lines = [said(Counts(5, 1), request_id=None), said(Counts(5, 9), request_id=None)]
    assert only(imported(write(tmp_path / "a.jsonl", *lines))[0]).output_tokens == 9


def test_equal_message_ids_of_different_requests_are_different_calls(tmp_path: Path) -> None:
    lines = [said(Counts(5, 1)), said(Counts(5, 1), request_id="req_2")]
    assert len(imported(write(tmp_path / "a.jsonl", *lines))[0]) == 2


def test_lines_without_any_id_are_told_apart_by_their_content(tmp_path: Path) -> None:
    bare = {"message_id": None, "request_id": None, "uuid": None}
    lines = [said(Counts(5, 1), **bare), said(Counts(5, 1), **bare), said(Counts(5, 2), **bare)]
    assert len(imported(write(tmp_path / "a.jsonl", *lines))[0]) == 2


def test_an_event_says_where_it_came_from(tmp_path: Path) -> None:
    line = said(Counts(5, 1), isSidechain=True, cost_usd="0.0123456789", service_tier="priority")
    event = only(imported(write(tmp_path / "a.jsonl", line))[0])
    assert event.subject[:4] == ("claude-code", "anthropic", MODELS[0], "shop")
    assert (event.source, event.run, event.session) == (Source.CLAUDE_CODE, "s1", "s1")
    assert (event.reported_nusd, event.service_tier) == (12_345_679, ServiceTier.PRIORITY)
    assert event.attributes is not None
    assert event.attributes["is_sidechain"] is True
    assert event.attributes["git_branch"] == "main"
    assert event.attributes["request_id"] == "req_1"


def test_options_name_the_events(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", said(Counts(5, 1)))
    options = ClaudeCodeOptions(
        agent="ada", provider="aws", project="p", user="u", billing=Billing.SUBSCRIPTION
    )
    event = only(imported(path, options=options)[0])
    assert event.subject == ("ada", "aws", MODELS[0], "p", "", "u", 0)
    assert event.billing is Billing.SUBSCRIPTION


@pytest.mark.parametrize("cwd", ["C:\\Users\\ada\\shop", "C:\\Users\\ada\\shop\\", "/home/ada/shop/", "shop"])
def test_the_project_is_the_last_part_of_the_working_directory(tmp_path: Path, cwd: str) -> None:
    line = said(Counts(5, 1)).replace('"/home/ada/shop"', json.dumps(cwd))
    assert only(imported(write(tmp_path / "a.jsonl", line))[0]).subject.project == "shop"


def test_a_failed_call_of_a_real_model_is_an_error_with_its_usage(tmp_path: Path) -> None:
    line = said(Counts(5, 0), isApiErrorMessage=True)
    event = only(imported(write(tmp_path / "a.jsonl", line))[0])
    assert (event.is_error, event.input_tokens) == (True, 5)


def test_a_complete_last_line_without_its_end_counts(tmp_path: Path) -> None:
    events, tally = imported(write(tmp_path / "a.jsonl", said(Counts(5, 1)), end=""))
    assert len(events) == 1
    assert tally.unfinished == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"input_tokens": 5', '"input_tokens": -5'),
        ('"input_tokens": 5', '"input_tokens": 5.5'),
        ('"input_tokens": 5', '"input_tokens": true'),
        ('"input_tokens": 5', '"input_tokens": 1e30'),
        ('"input_tokens": 5', '"input_tokens": 99999999999999999999999999'),
        ('"timestamp": "2025-10-09T12:00:00.000Z"', '"timestamp": "2025-10-09 12:00"'),
        ('"timestamp": "2025-10-09T12:00:00.000Z"', '"timestamp": null'),
        (f'"model": "{MODELS[0]}"', '"model": null'),
        (f'"model": "{MODELS[0]}"', '"model": "a\\u0000b"'),
        ('"gitBranch": "main"', '"gitBranch": "main", "costUSD": -1'),
        ('"gitBranch": "main"', '"gitBranch": "main", "costUSD": 1e300'),
    ],
)
def test_a_faulty_answer_is_refused_with_its_line_and_the_rest_is_taken(
    tmp_path: Path, old: str, new: str
) -> None:
    good = said(Counts(5, 1))
    other = said(Counts(5, 1), request_id="req_2")
    assert old in other
    faulty = other.replace(old, new)
    events, tally = imported(write(tmp_path / "a.jsonl", good, faulty, said(Counts(5, 7))))
    assert only(events).output_tokens == 7
    assert tally.refused == 1
    assert tally.problems[0].line == 2


def test_a_long_session_is_given_in_bounded_pieces(tmp_path: Path) -> None:
    lines = [said(Counts(5, 1), message_id=f"m{n}") for n in range(PENDING_MAX + 10)]
    lines.append(said(Counts(5, 2), message_id="m0"))
    tally = Tally()
    path = write(tmp_path / "a.jsonl", *lines)
    events = list(read_logs([path], ClaudeCodeOptions(), tally))
    assert tally.events == PENDING_MAX + 10
    assert len(events) == tally.events + 1
    assert tally.tokens == 6 * tally.events + 1


def test_a_missing_file_is_a_problem_and_no_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", said(Counts(5, 1)))
    tally = Tally()
    events = list(read_logs([tmp_path / "gone.jsonl", path], ClaudeCodeOptions(), tally))
    assert len(events) == 1
    assert "gone.jsonl: cannot be read" in str(tally.problems[0])


def test_progress_ends_at_the_last_byte(tmp_path: Path) -> None:
    LogFolder(tmp_path).build()
    told: list[tuple[int, int]] = []
    tally = Tally()
    paths = find_logs([tmp_path], tally)
    list(read_logs(paths, ClaudeCodeOptions(), tally, lambda done, total: told.append((done, total))))
    size = sum(path.stat().st_size for path in paths)
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert len(told) > 1


def test_logs_are_found_once_in_each_kind_of_root(tmp_path: Path) -> None:
    path = write(tmp_path / "projects" / "p" / "s" / "subagents" / "agent-1.jsonl", said(Counts(5, 1)))
    (tmp_path / "link").symlink_to(tmp_path)
    for roots in ([tmp_path], [tmp_path / "projects"], [path], [tmp_path, tmp_path / "link", path]):
        assert len(find_logs(roots, Tally())) == 1
    assert find_logs([tmp_path / "none"], Tally()) == []


def test_the_usual_places_are_searched_unless_one_is_configured(tmp_path: Path) -> None:
    assert default_roots({}, tmp_path) == [tmp_path / ".claude", tmp_path / ".config" / "claude"]
    assert default_roots({"CLAUDE_CONFIG_DIR": "/a, /b"}, tmp_path) == [Path("/a"), Path("/b")]


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_log_never_stops_an_import(data: st.DataObject) -> None:
    raw = bytearray("\n".join([said(Counts(5, 1)), said(Counts(5, 9), request_id="req_2")]).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(raw)
        file.flush()
        events, tally = imported(Path(file.name))
    assert len(events) == tally.events <= 2 + tally.lines
