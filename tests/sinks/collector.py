"""A real OpenTelemetry collector, and what it wrote."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.cluster.toolchain import binary
from tests.sinks.spans import Span, read_spans

Predicate = Callable[[list[Span]], bool]

# One file for all signals: what was not to be sent at all is seen in it as well.
CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "{grpc}"}}
      http: {{endpoint: "{http}"}}
exporters:
  file: {{path: "{output}", flush_interval: 20ms}}
service:
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"""


class Collector:
    """Receives OTLP on two loopback ports; ``grpc`` and ``http`` are their URLs."""

    def __init__(self, grpc: str, http: str, output: Path) -> None:
        self.grpc = f"http://{grpc}"
        self.http = f"http://{http}"
        self._output = output

    def spans(self) -> list[Span]:
        """All spans it has written so far, in the order of their arrival."""
        # A line that has no end yet is still being written.
        lines = [line for line in self.raw().splitlines(keepends=True) if line.endswith("\n")]
        return [span for line in lines for span in _spans(line)]

    def until(self, satisfied: Predicate, timeout: float = 10) -> list[Span]:
        """Wait until the spans satisfy; return them. ``timeout`` in seconds."""
        deadline = time.monotonic() + timeout
        while not satisfied(found := self.spans()):
            if time.monotonic() > deadline:
                names = [span.name for span in found]
                raise AssertionError(f"not within {timeout:g} s; the collector has {names}")
            time.sleep(0.02)
        return found

    def raw(self) -> str:
        """All it has received, of any signal, as JSON lines."""
        return self._output.read_text() if self._output.exists() else ""


@contextmanager
def running_collector(folder: Path) -> Iterator[Collector]:
    """Run a collector that writes below ``folder``; the first run builds it (2 minutes)."""
    program = binary("otelcol")
    grpc, http = _free_addresses()
    config, output, log = folder / "otelcol.yaml", folder / "otlp.json", folder / "otelcol.log"
    config.write_text(CONFIG.format(grpc=grpc, http=http, output=output))
    with log.open("w") as out:
        process = subprocess.Popen([program, "--config", config], stdout=out, stderr=out)
    try:
        for address in (grpc, http):
            _until_open(address, process, log)
        yield Collector(grpc, http, output)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _spans(line: str) -> Iterator[Span]:
    received = json.loads(line, object_hook=_with_protobuf_ids)
    data = TracesData()
    if "resourceSpans" in received:
        ParseDict(received, data)
    return read_spans(data.resource_spans)


def _with_protobuf_ids(found: dict[str, Any]) -> dict[str, Any]:
    # OTLP writes ids in hexadecimal digits; protobuf's own JSON reads bytes as base64.
    for key in {"traceId", "spanId", "parentSpanId"} & found.keys():
        found[key] = base64.b64encode(bytes.fromhex(found[key])).decode()
    return found


def _free_addresses() -> tuple[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        with socket.create_server(("127.0.0.1", 0)) as two:
            return f"127.0.0.1:{one.getsockname()[1]}", f"127.0.0.1:{two.getsockname()[1]}"


def _until_open(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"the collector does not answer on {address}; it said:\n{log.read_text()}")
