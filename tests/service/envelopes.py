"""A stand-in for Sentry on loopback: takes envelopes, and can be slow, broken or silent."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any


class Envelopes:
    """What has arrived at :attr:`dsn`."""

    def __init__(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.requests.put(body)
                sink.let_go.wait(60)
                self.wfile.write(sink.answer)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
        self.let_go = threading.Event()
        self.let_go.set()
        self.requests: Queue[bytes] = Queue()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self.server.server_port}/42"

    def event(self) -> dict[str, Any]:
        """The next event; waits for it."""
        _, header, payload = self.requests.get(timeout=30).split(b"\n", 2)
        assert json.loads(header)["type"] == "event"
        event: dict[str, Any] = json.loads(payload)
        return event

    def bodies(self) -> list[bytes]:
        """Everything that has arrived and was not asked for yet."""
        arrived: list[bytes] = []
        try:
            while True:
                arrived.append(self.requests.get_nowait())
        except Empty:
            return arrived


@contextmanager
def envelopes() -> Iterator[Envelopes]:
    """Listen until the block ends."""
    sink = Envelopes()
    thread = threading.Thread(target=sink.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.let_go.set()
        sink.server.shutdown()
        sink.server.server_close()
        thread.join()
