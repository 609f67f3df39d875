"""Speaks OTLP with a collector, over HTTP or gRPC, as the ``OTEL_EXPORTER_OTLP_*`` say.

The connection is kept from one batch to the next. grpc is imported when it is wanted, by the
exporter's thread.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tidegate.export import Post, RefusedError, RetryError

_SERVICE: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_LONGEST_ANSWER: Final = 1 << 20  # bytes that are read; a collector says next to nothing
_RETRY_STATUS: Final = frozenset({429, 502, 503, 504})
_RETRY_CODES: Final = frozenset(
    {
        "ABORTED",
        "CANCELLED",
        "DATA_LOSS",
        "DEADLINE_EXCEEDED",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
    }
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to send; see :func:`tidegate.otel_environment.read_endpoint`."""

    url: str
    """HTTP: with its path. gRPC: scheme (http is plain text), host and port."""
    protocol: str = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict)
    gzip: bool = False
    timeout: float = 10.0
    """Seconds for one request."""
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


def connect(endpoint: Endpoint) -> Post:
    """Return what sends requests there; nothing is opened before the first."""
    return _grpc(endpoint) if endpoint.protocol == "grpc" else _http(endpoint)


def _http(endpoint: Endpoint) -> Post:
    address = urlsplit(endpoint.url)
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    headers = {"content-type": "application/x-protobuf", **endpoint.headers}
    if endpoint.gzip:
        headers["content-encoding"] = "gzip"
    connection = _open(endpoint, address)

    def post(request: bytes, timeout: float) -> None:
        body = gzip.compress(request, 1) if endpoint.gzip else request
        limit = max(0.05, min(timeout, endpoint.timeout))
        kept = connection.sock is not None
        try:
            try:
                status, retry_after = ask(body, limit)
            except (BrokenPipeError, ConnectionResetError, RemoteDisconnected):
                if not kept:
                    raise
                # The collector had closed a connection that was idle: that is no failure.
                connection.close()
                status, retry_after = ask(body, limit)
        except (OSError, HTTPException) as error:
            connection.close()
            raise RetryError(type(error).__name__) from None
        if status in _RETRY_STATUS:
            raise RetryError(f"HTTP {status}", _seconds(retry_after))
        if not 200 <= status < 300:
            raise RefusedError(f"HTTP {status}")

    def ask(body: bytes, limit: float) -> tuple[int, str | None]:
        connection.timeout = limit
        if connection.sock is not None:
            connection.sock.settimeout(limit)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(_LONGEST_ANSWER)
        if not answer.isclosed():
            connection.close()
        return answer.status, answer.headers.get("retry-after")

    return post


def _open(endpoint: Endpoint, address: SplitResult) -> HTTPConnection:
    host = address.hostname or ""
    if address.scheme != "https":
        return HTTPConnection(host, address.port)
    import ssl

    context = ssl.create_default_context(cafile=_text(endpoint.certificate))
    if endpoint.client_certificate is not None:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return HTTPSConnection(host, address.port, context=context)


def _grpc(endpoint: Endpoint) -> Post:
    import grpc

    scheme, _, target = endpoint.url.partition("://")
    if scheme == "https":
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_content(endpoint.certificate),
            private_key=_content(endpoint.client_key),
            certificate_chain=_content(endpoint.client_certificate),
        )
        channel = grpc.secure_channel(target.rstrip("/"), credentials)
    else:
        channel = grpc.insecure_channel(target.rstrip("/"))
    # The request is encoded already, and the answer is of no interest.
    call = channel.unary_unary(_SERVICE)
    metadata = tuple((name.lower(), value) for name, value in endpoint.headers.items())
    compression = grpc.Compression.Gzip if endpoint.gzip else grpc.Compression.NoCompression

    def post(request: bytes, timeout: float) -> None:
        try:
            call(
                request,
                timeout=max(0.05, min(timeout, endpoint.timeout)),
                metadata=metadata,
                compression=compression,
            )
        except grpc.RpcError as error:
            code = error.code().name
            raise (RetryError if code in _RETRY_CODES else RefusedError)(code) from None

    return post


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None
