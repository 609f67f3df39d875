"""An OTLP back end that can be slow, down, full, silent or out of its mind."""

from __future__ import annotations

import gzip
import math
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.sinks.spans import Span, read_spans

GARBAGE_BYTES = b"\xff\xfe<html>this is no protobuf</html>"

# What a gRPC server says where an HTTP server says the number.
GRPC_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True)
class Answer:
    """What the sink does with an export; times in seconds."""

    delay: float = 0
    status: int = 200
    retry_after: int | None = None
    body: bytes = ExportTraceServiceResponse().SerializeToString()


ACCEPT = Answer()
SILENCE = Answer(delay=math.inf)
GARBAGE = Answer(body=GARBAGE_BYTES)


def slow(seconds: float) -> Answer:
    """Take the spans, but say so late."""
    return Answer(delay=seconds)


def refuse(status: int, retry_after: int | None = None) -> Answer:
    """Refuse with an HTTP status, or what gRPC says for it."""
    return Answer(status=status, retry_after=retry_after, body=b"")


@dataclass(frozen=True)
class Attempt:
    """One export that has arrived, whatever became of it; ``at`` is monotonic time."""

    spans: tuple[Span, ...]
    headers: Mapping[str, str]
    at: float = field(default_factory=time.monotonic)


class OtlpSink:
    """Listens for OTLP traces on two loopback ports between :meth:`up` and :meth:`down`.

    Set ``answer`` at any time: it is what the next export gets, over HTTP and gRPC alike.
    """

    def __init__(self) -> None:
        self.answer = ACCEPT
        self._attempts: list[Attempt] = []
        self._spans: list[Span] = []
        self._changed = threading.Condition()
        self._down = threading.Event()
        self._ports = {"grpc": 0, "http": 0}

    @property
    def grpc(self) -> str:
        """Its URL for gRPC; the same after each :meth:`up`."""
        return f"http://127.0.0.1:{self._ports['grpc']}"

    @property
    def http(self) -> str:
        """Its URL for HTTP, without the path; the same after each :meth:`up`."""
        return f"http://127.0.0.1:{self._ports['http']}"

    def up(self) -> None:
        """Open both ports."""
        self._down.clear()
        self._grpc_server, self._ports["grpc"] = _grpc_server(self._ports["grpc"], self._take)
        self._http_server = _HttpServer(self._ports["http"], self._take)
        self._ports["http"] = self._http_server.server_port

    def down(self) -> None:
        """Close both ports and every connection, whatever is under way."""
        self._down.set()
        self._http_server.close()
        self._grpc_server.stop(grace=0).wait()

    def spans(self) -> list[Span]:
        """The spans it has accepted, in the order of their arrival."""
        with self._changed:
            return list(self._spans)

    def attempts(self) -> list[Attempt]:
        """All exports that have arrived, accepted or not."""
        with self._changed:
            return list(self._attempts)

    def until(self, satisfied: Callable[[list[Span]], bool], timeout: float = 10) -> list[Span]:
        """Wait until the accepted spans satisfy; return them. ``timeout`` in seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: satisfied(self._spans), timeout):
                names = [span.name for span in self._spans]
                raise AssertionError(f"not within {timeout:g} s; the sink has {names}")
            return list(self._spans)

    def until_asked(self, times: int = 1, timeout: float = 10) -> list[Attempt]:
        """Wait until so many exports have arrived, accepted or not."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._attempts) >= times, timeout):
                raise AssertionError(f"{len(self._attempts)} of {times} exports in {timeout:g} s")
            return list(self._attempts)

    def _take(self, request: ExportTraceServiceRequest, headers: Mapping[str, str]) -> Answer:
        attempt = Attempt(tuple(read_spans(request.resource_spans)), headers)
        answer = self.answer
        with self._changed:
            self._attempts.append(attempt)
            self._changed.notify_all()
        went_down = self._down.wait(answer.delay if math.isfinite(answer.delay) else None)
        if answer.status == 200 and not (went_down and answer.delay):
            with self._changed:
                self._spans += attempt.spans
                self._changed.notify_all()
        return answer


@contextmanager
def running_sink() -> Iterator[OtlpSink]:
    """Run a sink that accepts everything until it is told otherwise."""
    sink = OtlpSink()
    sink.up()
    try:
        yield sink
    finally:
        sink.down()


@contextmanager
def silent_port() -> Iterator[str]:
    """Give the URL of a port that takes connections and bytes, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


Take = Callable[[ExportTraceServiceRequest, Mapping[str, str]], Answer]


def _grpc_server(port: int, take: Take) -> tuple[grpc.Server, int]:
    def export(request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> bytes:
        answer = take(request, dict(context.invocation_metadata()))
        if answer.status == 200:
            return answer.body
        if answer.retry_after is not None:
            info = RetryInfo(retry_delay=Duration(seconds=answer.retry_after))
            context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
        context.abort(GRPC_CODES.get(answer.status, grpc.StatusCode.INTERNAL), "as the test asked")
        raise AssertionError("abort() raises")

    handler = grpc.unary_unary_rpc_method_handler(
        export, request_deserializer=ExportTraceServiceRequest.FromString
    )
    server = grpc.server(
        ThreadPoolExecutor(16, thread_name_prefix="otlp-sink"),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, take: Take) -> None:
        super().__init__(("127.0.0.1", port), _HttpHandler)
        self.take = take
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self.connections):
            _cut(connection)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client was first
        return


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/traces":
            self._say(404)
        elif self.headers.get("content-type") != "application/x-protobuf":
            self._say(415)
        else:
            try:
                request = _decode(body, self.headers.get("content-encoding"))
            except (OSError, zlib.error, DecodeError):
                self._say(400)
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.server.take(request, headers)
            self._say(answer.status, answer.body, answer.retry_after)

    def _say(self, status: int, body: bytes = b"", retry_after: int | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client did not wait, or the sink went down
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as the base
        """Say nothing: a fault is what the test asked for."""


def _decode(body: bytes, encoding: str | None) -> ExportTraceServiceRequest:
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    return request
