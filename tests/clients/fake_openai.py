"""A provider's chat API on a local port, as far as its official client needs it.

Each call takes 100 tokens and gives 50. A model named `refused` answers 400.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INPUT_TOKENS = 100
OUTPUT_TOKENS = 50
_USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "refused":
            self._send(
                400, "application/json", b'{"error": {"message": "no", "type": "invalid_request_error"}}'
            )
        elif asked.get("stream"):
            self._send(200, "text/event-stream", b"".join(_chunks(asked["model"])))
        else:
            message = {"role": "assistant", "content": "hi"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = _body(asked["model"], "chat.completion", [choice]) | {"usage": _USAGE}
            self._send(200, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _body(model: str, kind: str, choices: list[object]) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": f"{model}-2026", "choices": choices}


def _chunks(model: str) -> Iterator[bytes]:
    for text in ("h", "i"):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        yield _line(_body(model, "chat.completion.chunk", [choice]))
    yield _line(_body(model, "chat.completion.chunk", []) | {"usage": _USAGE})
    yield b"data: [DONE]\n\n"


def _line(body: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@contextmanager
def fake_openai() -> Iterator[str]:
    """Serve on a free port; give the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
