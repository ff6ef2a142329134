from io import BytesIO

from bursar.capture.reading import PROBLEMS_KEPT_MAX, Line, Meter, Problem, Tally, read_lines


def lines(raw: bytes, line_bytes_max: int = 8) -> list[Line]:
    return list(read_lines(BytesIO(raw), Meter(len(raw)), line_bytes_max))


def test_lines_end_in_either_way_and_the_last_one_perhaps_not() -> None:
    assert lines(b"a\r\n\nb\nc") == [
        Line(1, b"a", is_ended=True),
        Line(2, b"", is_ended=True),
        Line(3, b"b", is_ended=True),
        Line(4, b"c", is_ended=False),
    ]


def test_a_line_beyond_the_bound_is_skipped_and_counted_as_one() -> None:
    assert lines(b"x" * 30 + b"\nab\n" + b"y" * 20) == [
        Line(1, None, is_ended=True),
        Line(2, b"ab", is_ended=True),
        Line(3, None, is_ended=False),
    ]


def test_a_line_of_just_the_bound_is_taken() -> None:
    assert lines(b"1234567\n12345678\n")[0] == Line(1, b"1234567", is_ended=True)


def test_a_bar_never_passes_its_end_when_the_file_grows() -> None:
    told: list[tuple[int, int]] = []
    meter = Meter(5, lambda done, total: told.append((done, total)))
    meter.add(9)
    meter.finish()
    assert told == [(9, 9)]


def test_all_faults_are_counted_and_the_first_ones_kept() -> None:
    tally = Tally()
    for number in range(PROBLEMS_KEPT_MAX + 5):
        tally.refuse(Problem("a.csv", number, "bad", "tokens"))
    assert tally.refused == PROBLEMS_KEPT_MAX + 5
    assert len(tally.problems) == PROBLEMS_KEPT_MAX
    assert str(tally.problems[7]) == "a.csv:7: tokens: bad"
