"""Speaks OTLP with a collector, over HTTP or gRPC, as the ``OTEL_EXPORTER_OTLP_*`` say.

Imported by the exporter's thread only: urllib3 and grpc are heavy.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidegate.export import Post, RefusedError, RetryError

_SERVICE: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
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
    import urllib3
    from urllib3.exceptions import HTTPError

    pool = urllib3.PoolManager(
        ca_certs=_text(endpoint.certificate),
        cert_file=_text(endpoint.client_certificate),
        key_file=_text(endpoint.client_key),
        retries=False,
    )
    headers = {"content-type": "application/x-protobuf", **endpoint.headers}
    if endpoint.gzip:
        headers["content-encoding"] = "gzip"

    def post(request: bytes, timeout: float) -> None:
        body = gzip.compress(request, 1) if endpoint.gzip else request
        limit = urllib3.Timeout(total=max(0.05, min(timeout, endpoint.timeout)))
        try:
            answer = pool.request("POST", endpoint.url, body=body, headers=headers, timeout=limit)
        except HTTPError as error:
            # Only the type: the text quotes the URL, which may hold a key.
            raise RetryError(type(error).__name__) from None
        if answer.status in _RETRY_STATUS:
            raise RetryError(f"HTTP {answer.status}", _seconds(answer.headers.get("retry-after")))
        if not 200 <= answer.status < 300:
            raise RefusedError(f"HTTP {answer.status}")

    return post


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
