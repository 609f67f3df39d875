"""What is measured: one row for each way of wiring the same application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BARE = "bare"
FULL = "tidegate-5"
"""All hooks as a service would run them; most goals are about this row."""


@dataclass(frozen=True)
class Row:
    """One wiring. ``{sink}`` in its environment stands for the sink's URL, ending in the name."""

    name: str
    wiring: str
    """The function of :mod:`bench.apps` that wires the application."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reference: str = BARE
    """The row that this one is compared with."""
    spans: float = 0.0
    """The share of requests that must reach the collector as a server span."""
    sockets: bool = True
    """Whether it is measured over sockets too; all are in process."""
    access_log: bool = False
    """uvicorn's own."""

    @property
    def ours(self) -> bool:
        """Whether `tidegate serve` serves it."""
        return self.wiring == "tidegate"


def _sampled(share: float) -> dict[str, str]:
    return {
        "OTEL_SERVICE_NAME": "bench",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "{sink}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{share:g}",
    }


_SENTRY = {"SENTRY_DSN": "{sentry}"}
_NOTHING = {
    "TIDEGATE_METRICS": "false",
    "TIDEGATE_ACCESS_LOG": "false",
    "TIDEGATE_LOG_FORMAT": "off",
    "TIDEGATE_TRACES_BACKEND": "off",
}
_METRICS = {"TIDEGATE_METRICS": "true"}
_LOG = {"TIDEGATE_ACCESS_LOG": "true", "TIDEGATE_LOG_FORMAT": "json"}
_DIRECT = {"TIDEGATE_TRACES_BACKEND": "direct"}
_CONTRIB = {"TIDEGATE_TRACES_BACKEND": "contrib"}
_MANY_ROUTES = {"BENCH_ROUTES": "60"}


def _all_hooks(share: float, backend: Mapping[str, str]) -> dict[str, str]:
    return {**_METRICS, **_LOG, **backend, **_sampled(share), **_SENTRY}


def _alone(name: str, *parts: Mapping[str, str], spans: float = 0.0) -> Row:
    environment = dict(_NOTHING)
    for part in parts:
        environment.update(part)
    return Row(f"tidegate-only-{name}", "tidegate", environment, spans=spans, sockets=False)


ROWS = (
    Row(BARE, "bare"),
    Row("bare-telemetry-off", "telemetry_off", sockets=False),
    Row("bare-60-routes", "bare", _MANY_ROUTES, sockets=False),
    Row("naive", "naive", {**_sampled(1), **_SENTRY}, spans=1, access_log=True),
    Row("prometheus-fastapi-instrumentator", "instrumentator"),
    Row("starlette-exporter", "exporter"),
    Row("otel-contrib-100", "contrib", _sampled(1), spans=1),
    Row("otel-contrib-5", "contrib", _sampled(0.05), spans=0.05),
    Row("fastapi-native-100", "native", _sampled(1), spans=1),
    Row("sentry-default", "sentry", _SENTRY, sockets=False),
    Row("sentry-traced", "sentry_traced", _SENTRY),
    Row("sentry-errors-only", "sentry_errors", _SENTRY, sockets=False),
    Row("logfire", "logfire", _sampled(1), spans=1),
    Row("elastic-apm", "elastic", {"BENCH_APM": "{sink}"}),
    Row("tidegate-5", "tidegate", _all_hooks(0.05, _DIRECT), spans=0.05),
    Row("tidegate-100", "tidegate", _all_hooks(1, _DIRECT), spans=1),
    Row(
        "tidegate-5-60-routes",
        "tidegate",
        {**_all_hooks(0.05, _DIRECT), **_MANY_ROUTES},
        reference="bare-60-routes",
        spans=0.05,
        sockets=False,
    ),
    Row("tidegate-contrib-5", "tidegate", _all_hooks(0.05, _CONTRIB), spans=0.05),
    Row("tidegate-contrib-100", "tidegate", _all_hooks(1, _CONTRIB), spans=1),
    _alone("context"),
    _alone("metrics", _METRICS),
    _alone("access-log", _LOG),
    _alone("traces-unsampled", _DIRECT, _sampled(0)),
    _alone("traces-sampled", _DIRECT, _sampled(1), spans=1),
    _alone("sentry", _SENTRY),
)


def chosen(names: Iterable[str]) -> tuple[Row, ...]:
    """Return the named rows and those they are compared with; all of them without a name.

    Raises:
        ValueError: no row has such a name.
    """
    known = {row.name: row for row in ROWS}
    wanted = set(names)
    if unknown := sorted(wanted - set(known)):
        raise ValueError(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    if not wanted:
        return ROWS
    wanted |= {BARE} | {known[name].reference for name in wanted}
    return tuple(row for row in ROWS if row.name in wanted)
