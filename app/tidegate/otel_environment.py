"""OpenTelemetry's own environment variables, read as its specification says.

Source: "OpenTelemetry Environment Variable Specification" and "OTLP Exporter Configuration".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from tidegate.collector import Endpoint
from tidegate.export import Batching
from tidegate.sampling import Sampling, read_sampling
from tidegate.settings import SettingsError

N = TypeVar("N", int, float)

_PROTOCOLS: Final = ("grpc", "http/protobuf")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one span may hold; more is dropped and counted."""

    attributes: int = 128
    events: int = 128
    links: int = 128
    value_length: int | None = None
    """Characters of a string attribute."""


@dataclass(frozen=True, slots=True)
class TracesEnvironment:
    """All that the environment says about traces."""

    endpoint: Endpoint
    sampling: Sampling
    batching: Batching
    limits: Limits
    resource: Mapping[str, str]


def traces_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans have a place to go: an OTLP endpoint is named and nothing turns them off."""
    return (
        environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "otlp"
        and bool(_of_traces(environment, "ENDPOINT"))
    )


def read_traces(environment: Mapping[str, str] = os.environ) -> TracesEnvironment:
    """Read what traces need.

    Raises:
        SettingsError: a variable has a value that is not allowed.
    """
    try:
        sampling = read_sampling(
            environment.get("OTEL_TRACES_SAMPLER", "").strip(),
            environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip(),
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None
    queue = _number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", int, 2048, least=1)
    longest = environment.get(
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        environment.get("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
    )
    return TracesEnvironment(
        endpoint=_read_endpoint(environment),
        sampling=sampling,
        batching=Batching(
            max_queue=queue,
            max_batch=min(
                queue, _number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", int, 512, least=1)
            ),
            delay=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", float, 5000.0, least=1) / 1000,
            timeout=_number(environment, "OTEL_BSP_EXPORT_TIMEOUT", float, 30000.0, least=1) / 1000,
        ),
        limits=Limits(
            attributes=_number(
                environment,
                "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
                int,
                _number(environment, "OTEL_ATTRIBUTE_COUNT_LIMIT", int, 128, least=0),
                least=0,
            ),
            events=_number(environment, "OTEL_SPAN_EVENT_COUNT_LIMIT", int, 128, least=0),
            links=_number(environment, "OTEL_SPAN_LINK_COUNT_LIMIT", int, 128, least=0),
            value_length=int(longest) if longest.strip().isdigit() else None,
        ),
        resource=_read_resource(environment),
    )


def _read_endpoint(environment: Mapping[str, str]) -> Endpoint:
    protocol = _of_traces(environment, "PROTOCOL") or "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: use {' or '.join(_PROTOCOLS)}")
    url = _of_traces(environment, "ENDPOINT")
    parsed = urlsplit(url)
    if parsed.scheme not in {"http", "https"} or not parsed.hostname:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: write it as http://collector:4318 "
            "(gRPC: http://collector:4317), https where the collector has TLS"
        )
    if protocol == "grpc":
        url = f"{parsed.scheme}://{parsed.netloc}"
    elif not environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        url = url.rstrip("/") + "/v1/traces"
    return Endpoint(
        url=url,
        protocol=protocol,
        headers=_pairs(_of_traces(environment, "HEADERS")),
        gzip=_of_traces(environment, "COMPRESSION") == "gzip",
        # Milliseconds by the specification, seconds in OpenTelemetry for Python: nobody who sets
        # 5 means milliseconds, nobody who sets 5000 means more than an hour.
        timeout=_timeout(_of_traces(environment, "TIMEOUT")),
        certificate=_path(environment, "CERTIFICATE"),
        client_certificate=_path(environment, "CLIENT_CERTIFICATE"),
        client_key=_path(environment, "CLIENT_KEY"),
    )


def _read_resource(environment: Mapping[str, str]) -> dict[str, str]:
    resource = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "tidegate"}
    resource |= _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := environment.get("OTEL_SERVICE_NAME", "").strip():
        resource["service.name"] = name
    resource.setdefault("service.name", "unknown_service")
    return resource


def _of_traces(environment: Mapping[str, str], name: str) -> str:
    """Read ``OTEL_EXPORTER_OTLP_TRACES_<NAME>``, else the one for all signals."""
    return (
        environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
        or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()
    )


def _pairs(text: str) -> dict[str, str]:
    """Read ``a=1,b=2``; values may be percent-encoded, as W3C Baggage has it."""
    pairs = (each.partition("=") for each in text.split(",") if "=" in each)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}


def _timeout(text: str) -> float:
    try:
        value = float(text or "10")
    except ValueError:
        value = 0.0
    if value <= 0:
        raise SettingsError("OTEL_EXPORTER_OTLP_TIMEOUT: use a number of seconds above 0")
    return value / 1000 if value >= 1000 else value


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    text = _of_traces(environment, name)
    if text and not Path(text).is_file():
        raise SettingsError(f"OTEL_EXPORTER_OTLP_{name}: there is no file {text}")
    return Path(text) if text else None


def _number(
    environment: Mapping[str, str], name: str, kind: Callable[[str], N], default: N, *, least: int
) -> N:
    text = environment.get(name, "").strip()
    try:
        value = kind(text) if text else default
    except ValueError:
        value = kind(str(least - 1))
    if value < least:
        raise SettingsError(f"{name}: use a number not below {least}")
    return value
