"""A sync of the disk lies between every request and its 2xx: looked at from outside, system call by call."""

from pathlib import Path

from bursar.wiring import verify_file
from support.book import Book, totals_of
from support.desk import event
from support.server import running_server
from support.traced import DOORS, REQUESTS, answers_without_a_sync, attached, needs_strace


@needs_strace
def test_no_answer_says_recorded_before_a_sync(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with running_server(tmp_path / "data") as server:
        tracer = attached([server.pid], trace)
        for _ in range(REQUESTS):
            for path, body in DOORS.items():
                assert server.post(path, body).status_code in {201, 202}
        large = {"events": [event() for _ in range(300)]}
        assert server.post("/v1/ingest", large).status_code == 202
        tracer.terminate()
        tracer.wait(10)
    assert answers_without_a_sync(trace.read_text(errors="replace").splitlines()) == (3 * REQUESTS + 1, 0)


@needs_strace
def test_while_the_disk_fails_to_sync_nothing_is_acknowledged_and_nothing_is_lost(tmp_path: Path) -> None:
    book = Book(11)
    data_dir = tmp_path / "data"
    with running_server(data_dir) as server:
        key = str(server.ingest_key)
        assert book.send(server.client, book.make(80), key) == 202
        tracer = attached([server.pid], tmp_path / "trace", "-e", "inject=fsync,fdatasync:error=EIO")
        for size in (1, 80, 1, 5):
            assert book.send(server.client, book.make(size), key) == 429
        assert server.get("/v1/events", limit=1).status_code == 200
        tracer.terminate()
        tracer.wait(10)
        assert book.send(server.client, book.make(1), key) == 202
        assert book.send(server.client, book.make(80), key) == 202
        server.kill9()
    with running_server(data_dir) as server:
        assert book.check(data_dir) == len(book.acknowledged) == 161
        book.resend_all(server.client, key)
    assert totals_of(data_dir) == book.totals()
    assert verify_file(data_dir).violations == ()
