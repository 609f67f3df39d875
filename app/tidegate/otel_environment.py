"""OpenTelemetry's own environment variables, read as its specification says.

Source: "OpenTelemetry Environment Variable Specification" and "OTLP Exporter Configuration".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from tidegate.collector import Endpoint
from tidegate.export import Batching
from tidegate.sampling import Sampling, read_sampling
from tidegate.settings import SettingsError

N = TypeVar("N", int, float)
D = TypeVar("D", int, float, int | None)

_PROTOCOLS: Final = ("grpc", "http/protobuf")
_W3C: Final = frozenset({"tracecontext", "baggage"})
_MOST: Final = 10**9  # of what is counted, or in milliseconds eleven days
# What HTTP and gRPC both let through: an error of theirs would quote the value, which is a key.
_HEADER_NAME: Final = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


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
    w3c_only: bool
    """Whether callers are read from ``traceparent``, with nothing else to look at."""


def traces_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans have a place to go: an OTLP endpoint is named and nothing turns them off.

    Raises:
        SettingsError: they are to go where only the SDK sends them.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in {"", "otlp", "none"}:
        raise SettingsError("OTEL_TRACES_EXPORTER: use otlp or none")
    return (
        environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and exporter != "none"
        and bool(_of_traces(environment, "ENDPOINT")[1])
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
    longest = _number(environment, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", int, None, least=0)
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
            value_length=_number(
                environment, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", int, longest, least=0
            ),
        ),
        resource=_read_resource(environment),
        w3c_only=read_propagators(environment),
    )


def read_propagators(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether ``OTEL_PROPAGATORS`` lets callers be read from ``traceparent`` alone.

    To be called before FastAPI is imported: with it comes OpenTelemetry's own reading, which
    ends in a traceback.

    Raises:
        SettingsError: it names a propagator that is not installed.
    """
    text = environment.get("OTEL_PROPAGATORS", "")
    if not text:  # as OpenTelemetry has it: not even a blank may be there
        return True
    names = [name.strip() for name in text.split(",")]
    if _W3C.issuperset(names):
        return "tracecontext" in names
    for name in names:
        if name.lower() == "none":  # which makes OpenTelemetry look no further
            return False
        if not entry_points(group="opentelemetry_propagator", name=name):
            raise SettingsError(
                f"OTEL_PROPAGATORS: no installed package has the propagator {name!r}; use "
                "tracecontext,baggage or none, or install the package that has it, for example "
                "opentelemetry-propagator-b3 for b3"
            )
    return False


def _read_endpoint(environment: Mapping[str, str]) -> Endpoint:
    variable, protocol = _of_traces(environment, "PROTOCOL")
    protocol = protocol or "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise SettingsError(f"{variable}: use {' or '.join(_PROTOCOLS)}")
    compression_variable, compression = _of_traces(environment, "COMPRESSION")
    if compression not in {"", "none", "gzip"}:
        raise SettingsError(f"{compression_variable}: use gzip or none")
    return Endpoint(
        url=_read_url(environment, protocol),
        protocol=protocol,
        headers=_read_headers(environment),
        gzip=compression == "gzip",
        timeout=_read_timeout(environment),
        certificate=_path(environment, "CERTIFICATE"),
        client_certificate=_path(environment, "CLIENT_CERTIFICATE"),
        client_key=_path(environment, "CLIENT_KEY"),
    )


def _read_url(environment: Mapping[str, str], protocol: str) -> str:
    variable, url = _of_traces(environment, "ENDPOINT")
    if protocol == "grpc" and "://" not in url:
        insecure = _of_traces(environment, "INSECURE")[1].lower() == "true"
        url = f"{'http' if insecure else 'https'}://{url}"
    try:
        parsed = urlsplit(url)
        sound = parsed.scheme in {"http", "https"} and parsed.hostname and parsed.port != 0
    except ValueError:  # no port, no address
        sound = False
    if not sound:
        raise SettingsError(
            f"{variable}: write it as http://collector:4318 (gRPC: http://collector:4317, or "
            "collector:4317 with OTEL_EXPORTER_OTLP_INSECURE=true), https where the collector "
            "has TLS"
        )
    if protocol == "grpc":
        return f"{parsed.scheme}://{parsed.netloc}"
    return url if "TRACES" in variable else url.rstrip("/") + "/v1/traces"


def _read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    variable, text = _of_traces(environment, "HEADERS")
    headers = _pairs(text)
    sound = all("=" in each for each in text.split(",") if each.strip())
    for name, value in headers.items():
        sound = sound and bool(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value))
    if not sound:
        # Without the value: it is a key nearly always.
        raise SettingsError(
            f"{variable}: write it as name=value,name=value, each of visible ASCII characters; "
            "a key that was read from a file may end with a newline"
        )
    return headers


def _read_timeout(environment: Mapping[str, str]) -> float:
    variable, _ = _of_traces(environment, "TIMEOUT")
    seconds = _number(environment, variable, float, 10.0, least=0.001)
    # Milliseconds by the specification, seconds in OpenTelemetry for Python: nobody who sets 5
    # means milliseconds, nobody who sets 5000 means more than an hour.
    return seconds / 1000 if seconds >= 1000 else seconds


def _read_resource(environment: Mapping[str, str]) -> dict[str, str]:
    resource = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "tidegate"}
    resource |= _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := environment.get("OTEL_SERVICE_NAME", "").strip():
        resource["service.name"] = name
    resource.setdefault("service.name", "unknown_service")
    return resource


def _of_traces(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Read ``OTEL_EXPORTER_OTLP_TRACES_<NAME>``, else the one for all signals.

    Returns:
        The variable that holds it, and its value; empty where neither is set.
    """
    general, specific = f"OTEL_EXPORTER_OTLP_{name}", f"OTEL_EXPORTER_OTLP_TRACES_{name}"
    variable = specific if environment.get(specific, "").strip() else general
    return variable, environment.get(variable, "").strip()


def _pairs(text: str) -> dict[str, str]:
    """Read ``a=1,b=2``; values may be percent-encoded, as W3C Baggage has it."""
    pairs = (each.partition("=") for each in text.split(",") if "=" in each)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    variable, text = _of_traces(environment, name)
    if text and not Path(text).is_file():
        raise SettingsError(f"{variable}: there is no file {text}")
    return Path(text) if text else None


def _number(
    environment: Mapping[str, str],
    name: str,
    kind: Callable[[str], N],
    default: D,
    *,
    least: float,
) -> N | D:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    # Not only too small: no thread can wait for an infinite time, or for nan.
    if value is None or not least <= value <= _MOST:
        raise SettingsError(f"{name}: use a number from {least:g} to {_MOST}")
    return value
