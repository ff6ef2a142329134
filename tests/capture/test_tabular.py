import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bursar.capture.mapping import TableMapping, mapping_from_texts
from bursar.capture.reading import Tally
from bursar.capture.tabular import read_tables
from bursar.core.errors import InvalidInput
from bursar.core.ids import key_from_text
from bursar.core.time import micros_from_text
from bursar.core.usage import Billing, ServiceTier, Source, UsageEvent

AZURE = Path(__file__).parent.parent / "data" / "azure_llm_trace_code_2023.csv.gz"
AZURE_COLUMNS = ["occurred_at=TIMESTAMP", "input_tokens=ContextTokens", "output_tokens=GeneratedTokens"]
BOT = ["agent=bot", "model=gpt-4o", "provider=openai"]
SIMPLE = ["occurred_at=when", "input_tokens=in", "output_tokens=out"]


def mapping(
    columns: list[str] | None = None,
    constants: list[str] | None = None,
    zone_name: str | None = "UTC",
    key_column: str | None = None,
) -> TableMapping:
    return mapping_from_texts(
        SIMPLE if columns is None else columns,
        BOT if constants is None else constants,
        zone_name=zone_name,
        key_column=key_column,
    )


def read(path: Path, by: TableMapping | None = None) -> tuple[list[UsageEvent], Tally]:
    tally = Tally()
    return list(read_tables([path], by or mapping(), tally)), tally


def table(tmp_path: Path, content: str | bytes, name: str = "calls.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one(tmp_path: Path, column: str, cell: str, field: str) -> UsageEvent:
    """Return the event of a table with one row whose `column` is mapped to `field`."""
    path = table(tmp_path, f'when,in,out,{column}\n2025-06-01T12:00:00Z,1,2,"{cell}"\n')
    events, tally = read(path, mapping([*SIMPLE, f"{field}={column}"]))
    assert not tally.problems, tally.problems
    return events[0]


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    return table(tmp_path, gzip.decompress(AZURE.read_bytes()), "azure.csv")


def test_the_azure_trace_gives_every_call_and_every_token(azure: Path) -> None:
    events, tally = read(azure, mapping(AZURE_COLUMNS))
    assert len({event.key for event in events}) == len(events) == tally.events == 8_819
    assert sum(event.input_tokens for event in events) == 18_059_974
    assert sum(event.output_tokens for event in events) == 245_896
    assert tally.refused == 0
    assert events[0].occurred_at == micros_from_text("2023-11-16T18:17:03.97996Z")


def test_a_second_read_gives_the_same_keys_and_a_longer_file_only_more(azure: Path) -> None:
    first = [event.key for event in read(azure, mapping(AZURE_COLUMNS))[0]]
    azure.write_bytes(azure.read_bytes() + b"\r\n2023-11-16 19:20:00.0000000,1,1")
    second = [event.key for event in read(azure, mapping(AZURE_COLUMNS))[0]]
    assert second[:-1] == first
    assert second[-1] not in first


def test_rows_that_look_alike_are_different_calls(tmp_path: Path) -> None:
    row = "2025-06-01T12:00:00Z,1,2\n"
    events, _ = read(table(tmp_path, "when,in,out\n" + 3 * row))
    assert len({event.key for event in events}) == 3


def test_another_agent_or_mapping_gives_other_keys(tmp_path: Path) -> None:
    path = table(tmp_path, "when,in,out\n2025-06-01T12:00:00Z,1,2\n")
    mappings = [
        mapping(),
        mapping(constants=[*BOT[1:], "agent=other"]),
        mapping(["occurred_at=when", "input_tokens=out"]),
        mapping(zone_name="Europe/Berlin"),
    ]
    assert len({read(path, by)[0][0].key for by in mappings}) == 4


def test_cells_do_not_run_into_each_other(tmp_path: Path) -> None:
    head = "when,in,out,a,b\n2025-06-01T12:00:00Z,1,2,"
    left = read(table(tmp_path, head + "ab,c\n"))[0][0]
    right = read(table(tmp_path, head + "a,bc\n"))[0][0]
    assert left.key != right.key


def test_a_key_column_is_the_callers_own_key(tmp_path: Path) -> None:
    path = table(tmp_path, "when,in,out,id\n2025-06-01T12:00:00Z,1,2,req-7\n2025-06-01T12:00:00Z,1,2,\n")
    events, tally = read(path, mapping(key_column="id"))
    assert [event.key for event in events] == [key_from_text("req-7")]
    assert str(tally.problems[0]).endswith("calls.csv:3: id: a key of 1 to 512 characters must stand here")


def test_a_byte_order_mark_quotes_and_empty_lines_are_no_trouble(tmp_path: Path) -> None:
    content = '\ufeffwhen,in,out,feature\r\n\r\n"2025-06-01T12:00:00Z","1",2,"two\nlines"\r\n\r\n'
    events, tally = read(table(tmp_path, content), mapping([*SIMPLE, "attributes.note=feature"]))
    assert (events[0].input_tokens, events[0].output_tokens) == (1, 2)
    assert events[0].attributes == {"note": "two\nlines"}
    assert tally.refused == 0


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_by_the_mapped_columns(tmp_path: Path, separator: str) -> None:
    content = "when,in,out\n2025-06-01T12:00:00Z,1,2\n".replace(",", separator)
    assert read(table(tmp_path, content))[0][0].tokens_total == 3


@pytest.mark.parametrize(
    ("row", "line", "column", "message"),
    [
        ('2025-06-01T12:00:00Z,"1,234",2', 3, "in", "without thousands separators"),
        ("2025-06-01T12:00:00Z,1.234,2", 3, "in", "without thousands separators"),
        ("2025-06-01T12:00:00Z,-1,2", 3, "in", "whole number, 0 or more"),
        ("2025-06-01T12:00:00Z,1.5,2", 3, "in", "whole number, 0 or more"),
        ("2025-06-01T12:00:00Z,NaN,2", 3, "in", "whole number, 0 or more"),
        ("2025-06-01T12:00:00Z,9999999999999,2", 3, "in", "must not be above"),
        ("yesterday,1,2", 3, "when", "must be a time such as"),
        ("2025-02-30 12:00:00,1,2", 3, "when", "no day and time"),
        (",1,2", 3, "when", "a time must stand here"),
        ("2025-06-01T12:00:00Z,1", 3, "", "the row has 2 cells, the header 3"),
        ("2025-06-01T12:00:00Z,1,2,3", 3, "", "the row has 4 cells, the header 3"),
        ("2025-06-01T12:00:00Z,,", 3, "", "nothing stands in in, out"),
    ],
)
def test_a_faulty_row_is_told_with_line_and_column_and_the_rest_is_taken(
    tmp_path: Path, row: str, line: int, column: str, message: str
) -> None:
    good = "2025-06-01T12:00:00Z,1,2"
    events, tally = read(table(tmp_path, f"when,in,out\n{good}\n{row}\n{good}\n"))
    assert len(events) == 2
    (problem,) = tally.problems
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


def test_rows_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    good = b"2025-06-01T12:00:00Z,1,2\n"
    long = b"x" * 5_000_000 + b"\n"
    quoted = b'"' + b"y" * 200_000 + b'"\n'
    content = b"when,in,out\n" + good + b"\xff\xfe\n" + good + long + good + quoted + good
    events, tally = read(table(tmp_path, content))
    assert len(events) == 4
    assert [problem.line for problem in tally.problems] == [3, 5, 7]


def test_a_row_is_told_by_the_line_it_begins_on(tmp_path: Path) -> None:
    content = b'when,in,out\n\n\xff\n"x\ny",1,2\n2025-06-01T12:00:00Z,one,2\n'
    _, tally = read(table(tmp_path, content))
    assert [problem.line for problem in tally.problems] == [3, 4, 6]


def test_a_file_in_another_encoding_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="save it as UTF-8"):
        read(table(tmp_path, "when,in,out\n".encode("utf-16")))


@pytest.mark.parametrize("content", ["", "\n\n", "a,b\n1,2\n", "when,in,output\n"])
def test_a_table_without_the_mapped_columns_is_refused_with_those_it_has(
    tmp_path: Path, content: str
) -> None:
    with pytest.raises(InvalidInput, match=r"has no column '(when|out)'; its columns are"):
        read(table(tmp_path, content))


def test_a_mapped_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="two columns 'in'"):
        read(table(tmp_path, "when,in,in,out\n"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03.97996Z"),
        ("2023-11-16T18:17:03.9999999", "2023-11-16T18:17:03.999999Z"),
        ("2023-11-16 18:17", "2023-11-16T18:17:00Z"),
        ("2023-11-16", "2023-11-16T00:00:00Z"),
        ("2023-11-16 18:17:03 UTC", "2023-11-16T18:17:03Z"),
        ("2023-11-16 18:17:03+0200", "2023-11-16T16:17:03Z"),
        ("2023-11-16 18:17:03.5 +02:00", "2023-11-16T16:17:03.5Z"),
        ("2023-11-16 18:17:03-05", "2023-11-16T23:17:03Z"),
        ("2023-11-16T18:17:03Z", "2023-11-16T18:17:03Z"),
    ],
)
def test_times_are_read_in_the_forms_that_tables_use(tmp_path: Path, cell: str, expected: str) -> None:
    path = table(tmp_path, f"when,in,out\n{cell},1,2\n")
    assert read(path)[0][0].occurred_at == micros_from_text(expected)


def test_a_time_without_a_zone_needs_one_to_be_said(tmp_path: Path) -> None:
    path = table(tmp_path, "when,in,out\n2023-07-16 18:17:03,1,2\n")
    assert "--tz UTC" in str(read(path, mapping(zone_name=None))[1].problems[0])
    berlin = read(path, mapping(zone_name="Europe/Berlin"))[0][0]
    assert berlin.occurred_at == micros_from_text("2023-07-16T16:17:03Z")


@pytest.mark.parametrize(
    ("field", "cell"), [("occurred_at_s", "1748779200.25"), ("occurred_at_ms", "1748779200250")]
)
def test_times_since_1970_name_their_unit(tmp_path: Path, field: str, cell: str) -> None:
    path = table(tmp_path, f"at,in\n{cell},1\n")
    (event,), _ = read(path, mapping([f"{field}=at", "input_tokens=in"]))
    assert event.occurred_at == micros_from_text("2025-06-01T12:00:00.25Z")


def test_a_cost_is_read_from_its_digits(tmp_path: Path) -> None:
    assert one(tmp_path, "cost", "0.1000000005", "cost_usd").reported_nusd == 100_000_000
    assert one(tmp_path, "cost", "1e-9", "cost_usd").reported_nusd == 1
    assert one(tmp_path, "cost", "", "cost_usd").reported_nusd is None


@pytest.mark.parametrize("cell", ["$1.00", "1,00", "1_0", "-1", "1e99", "nan"])
def test_a_cost_that_is_none_is_refused(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path, f'when,in,cost\n2025-06-01T12:00:00Z,1,"{cell}"\n')
    by = mapping(["occurred_at=when", "input_tokens=in", "cost_usd=cost"])
    assert read(path, by)[1].problems[0].column == "cost"


def test_durations_name_their_unit(tmp_path: Path) -> None:
    assert one(tmp_path, "took", "1.2345", "duration_s").duration_ms == 1234
    assert one(tmp_path, "took", "1234.6", "duration_ms").duration_ms == 1235


def test_other_fields_are_mapped_by_their_names(tmp_path: Path) -> None:
    assert one(tmp_path, "x", "subscription", "billing").billing is Billing.SUBSCRIPTION
    assert one(tmp_path, "x", "Batch", "service_tier").service_tier is ServiceTier.BATCH
    assert one(tmp_path, "x", "error", "status").is_error
    assert one(tmp_path, "x", "it broke", "error").is_error
    assert one(tmp_path, "x", "r-1", "run_id").run == "r-1"
    assert one(tmp_path, "x", "ada", "user").subject.user == "ada"
    assert one(tmp_path, "x", "v", "attributes.team").attributes == {"team": "v"}
    assert one(tmp_path, "x", "", "project").source is Source.CSV


def test_inclusive_counts_are_taken_apart(tmp_path: Path) -> None:
    columns = [
        *("occurred_at=when", "input_tokens_with_cached=in", "cache_read_tokens=cached"),
        *("output_tokens_with_reasoning=out", "reasoning_tokens=thought"),
    ]
    path = table(
        tmp_path,
        "when,in,cached,out,thought\n2025-06-01T12:00:00Z,100,70,9,4\n2025-06-01T12:00:00Z,1,2,0,0\n",
    )
    (event,), tally = read(path, mapping(columns))
    assert (event.input_tokens, event.cache_read_tokens) == (30, 70)
    assert (event.output_tokens, event.reasoning_tokens) == (5, 4)
    assert "its parts are 2" in tally.problems[0].message


def test_json_lines_are_read_with_paths_into_objects(tmp_path: Path) -> None:
    content = (
        '{"when": "2025-06-01T12:00:00Z", "usage": {"in": 5, "out": 7}, "cost": 0.10000000000000001}\n'
        "\n"
        "[1]\n"
        "{broken}\n"
        '{"when": "2025-06-01T12:00:00Z", "usage": {"in": true, "out": 7}}\n'
        '{"when": "2025-06-01T12:00:01Z", "usage": {"in": "6", "out": 7.0}}\n'
        '{"when": "2025-06-01T12:'
    )
    columns = ["occurred_at=when", "input_tokens=usage.in", "output_tokens=usage.out", "cost_usd=cost"]
    events, tally = read(table(tmp_path, content, "calls.jsonl"), mapping(columns))
    assert [event.tokens_total for event in events] == [12, 13]
    assert events[0].reported_nusd == 100_000_000
    assert [problem.line for problem in tally.problems] == [3, 4, 5]
    assert tally.unfinished == 1


def test_a_column_that_no_json_line_has_is_told(tmp_path: Path) -> None:
    content = '{"when": "2025-06-01T12:00:00Z", "in": 5}\n'
    _, tally = read(table(tmp_path, content, "calls.jsonl"))
    assert [str(problem).rpartition("/")[2] for problem in tally.problems] == [
        "calls.jsonl: out: no line has this column"
    ]


@pytest.mark.parametrize(
    ("columns", "constants", "message"),
    [
        (["occurred_at=when", "tokens=in"], BOT, "there is no field 'tokens'"),
        (["occurred_at=when"], BOT, "at least one count"),
        (["input_tokens=in"], BOT, "exactly one of occurred_at"),
        ([*SIMPLE, "occurred_at_s=x"], BOT, "exactly one of occurred_at"),
        (SIMPLE, ["agent=bot"], "map model to a column"),
        (SIMPLE, ["model=gpt-4o"], "map agent to a column"),
        ([*SIMPLE, "agent=a"], BOT, "both mapped and a constant"),
        ([*SIMPLE, "input_tokens=b"], BOT, "names input_tokens twice"),
        ([*SIMPLE, "input_tokens_with_cached=b"], BOT, "takes the place of"),
        (["occurred_at"], BOT, "must be FIELD=VALUE"),
        (SIMPLE, [*BOT, "billing=free"], "billing must be one of"),
        (SIMPLE, [*BOT, "attributes.=x"], "there is no field"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_at_once(
    columns: list[str], constants: list[str], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        mapping(columns, constants)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(InvalidInput):
        mapping(zone_name="Mars/Olympus")


def test_a_missing_file_is_a_problem_and_no_end(tmp_path: Path) -> None:
    assert "cannot be read" in str(read(tmp_path / "gone.csv")[1].problems[0])


def test_a_random_day_of_a_large_file_is_what_the_calendar_says(tmp_path: Path) -> None:
    rows = "".join(f"2025-06-{day:02d} 23:59:59.999999,1,0\n" for day in range(1, 31))
    events, _ = read(table(tmp_path, "when,in,out\n" + rows))
    days = [datetime.fromtimestamp(event.occurred_at // 1_000_000, UTC).day for event in events]
    assert days == list(range(1, 31))
