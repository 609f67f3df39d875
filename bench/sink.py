"""What the rows export to: takes OTLP over HTTP, Sentry envelopes and Elastic's events, and counts.

A collector's first step only, so that the core it shares with the load generator stays free. Every
row has a path of its own: a row that exports nothing is found out.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections import Counter, defaultdict
from http.client import HTTPConnection

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.types import Receive, Scope, Send

MARK = bytes.fromhex("be0c" + "00" * 6)
"""Trace ids that begin so are told apart: those of the requests after SIGTERM."""

_SERVER = 2  # SpanKind of a request's own span: its children are not counted


class Sink:
    """An ASGI application; ``GET /counts`` answers with row, then kind, then how many."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._marked: defaultdict[str, set[bytes]] = defaultdict(set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what was sent and say thanks."""
        answer = b"{}"
        if scope["path"] == "/counts":
            answer = json.dumps(self.counts()).encode()
        else:
            self._take(scope["path"], _unpacked(scope, await _body(receive)))
        await send({"type": "http.response.start", "status": 200, "headers": _headers(answer)})
        await send({"type": "http.response.body", "body": answer})

    def counts(self) -> dict[str, dict[str, int]]:
        """How much of each kind every row has sent."""
        return {
            row: {**counted, "marked": len(self._marked[row])}
            for row, counted in self._counts.items()
        }

    def _take(self, path: str, body: bytes) -> None:
        row, _, rest = path.lstrip("/").partition("/")
        counted = self._counts[row]
        if rest == "v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        counted["spans"] += span.kind == _SERVER
                        if span.kind == _SERVER and span.trace_id.startswith(MARK):
                            self._marked[row].add(span.trace_id)
        elif rest.endswith("/envelope/"):
            counted["envelopes"] += 1
        elif rest.startswith("intake/"):
            counted["transactions"] += body.count(b'\n{"transaction"')


class Counts:
    """Asks a running sink."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    def answers(self) -> bool:
        """Whether the sink is up."""
        try:
            self._ask()
        except OSError:
            return False
        return True

    def of(self, row: str, kind: str) -> int:
        """How many of a kind (``spans``, ``marked``, ``envelopes``…) a row has sent."""
        return int(self._ask().get(row, {}).get(kind, 0))

    def settle(self) -> None:
        """Wait until nothing has come for longer than an exporter waits to fill a batch (5 s)."""
        seen, since = self._ask(), time.monotonic()
        while time.monotonic() - since < 6:
            time.sleep(0.2)
            now = self._ask()
            if now != seen:
                seen, since = now, time.monotonic()

    def _ask(self) -> dict[str, dict[str, int]]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", "/counts")
            counts: dict[str, dict[str, int]] = json.load(connection.getresponse())
            return counts
        finally:
            connection.close()


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _unpacked(scope: Scope, body: bytes) -> bytes:
    encoding = dict(scope["headers"]).get(b"content-encoding", b"")
    if encoding == b"gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == b"deflate" else body


def _headers(answer: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]


app = Sink()
