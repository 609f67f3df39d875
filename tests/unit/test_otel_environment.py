"""OTEL_* variables: the good are read as the specification says, the bad are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.collector import Endpoint
from tidegate.otel_environment import TracesEnvironment, read_traces, traces_wanted
from tidegate.settings import SettingsError

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
DEFAULT = Endpoint("http://collector:4318/v1/traces")
CANARY = "c4n4ry-7f3a"

Read = Callable[[TracesEnvironment], object]


def read(**variables: str) -> TracesEnvironment:
    return read_traces(COLLECTOR | variables)


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, DEFAULT),
        ({"ENDPOINT": "http://c:4318/"}, replace(DEFAULT, url="http://c:4318/v1/traces")),
        ({"ENDPOINT": "https://c/base"}, replace(DEFAULT, url="https://c/base/v1/traces")),
        ({"TRACES_ENDPOINT": "http://c/as/it/is"}, replace(DEFAULT, url="http://c/as/it/is")),
        ({"ENDPOINT": "http://[::1]:4318"}, replace(DEFAULT, url="http://[::1]:4318/v1/traces")),
        (
            {"PROTOCOL": "grpc", "ENDPOINT": "http://c:4317/ignored"},
            replace(DEFAULT, url="http://c:4317", protocol="grpc"),
        ),
        (
            {"PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"},
            DEFAULT,
        ),
        (
            {"HEADERS": f"x-team={CANARY},authorization=Basic%20dTpw==, empty="},
            replace(
                DEFAULT,
                headers={"x-team": CANARY, "authorization": "Basic dTpw==", "empty": ""},
            ),
        ),
        (
            {"HEADERS": "a=1", "TRACES_HEADERS": "b=2"},
            replace(DEFAULT, headers={"b": "2"}),
        ),
        (
            {"PROTOCOL": "grpc", "ENDPOINT": "collector:4317", "INSECURE": "true"},
            replace(DEFAULT, url="http://collector:4317", protocol="grpc"),
        ),
        (
            {"PROTOCOL": "grpc", "ENDPOINT": "collector:4317"},
            replace(DEFAULT, url="https://collector:4317", protocol="grpc"),
        ),
        (
            {"PROTOCOL": "grpc", "TRACES_ENDPOINT": "c:4317", "TRACES_INSECURE": "True"},
            replace(DEFAULT, url="http://c:4317", protocol="grpc"),
        ),
        (
            {"PROTOCOL": "grpc", "ENDPOINT": "https://c:4317", "INSECURE": "true"},
            replace(DEFAULT, url="https://c:4317", protocol="grpc"),
        ),
        ({"COMPRESSION": "gzip"}, replace(DEFAULT, gzip=True)),
        ({"COMPRESSION": "none"}, DEFAULT),
        ({"TIMEOUT": "5"}, replace(DEFAULT, timeout=5)),
        ({"TIMEOUT": "5000"}, replace(DEFAULT, timeout=5)),
        ({"TIMEOUT": "0.5"}, replace(DEFAULT, timeout=0.5)),
        ({"TIMEOUT": ""}, DEFAULT),
        ({"CERTIFICATE": __file__}, replace(DEFAULT, certificate=Path(__file__))),
    ],
)
def test_where_and_how_to_send(variables: dict[str, str], endpoint: Endpoint) -> None:
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    assert read(**named).endpoint == endpoint


@pytest.mark.parametrize(
    ("variables", "read_value", "expected"),
    [
        ({}, lambda e: e.batching.max_queue, 2048),
        ({}, lambda e: e.batching.max_batch, 512),
        ({}, lambda e: e.batching.delay, 5),
        ({}, lambda e: e.batching.timeout, 30),
        ({"OTEL_BSP_SCHEDULE_DELAY": "100"}, lambda e: e.batching.delay, 0.1),
        ({"OTEL_BSP_SCHEDULE_DELAY": ""}, lambda e: e.batching.delay, 5),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "10"}, lambda e: e.batching.max_batch, 10),
        ({}, lambda e: e.limits.attributes, 128),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "5"}, lambda e: e.limits.attributes, 5),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": "0"}, lambda e: e.limits.events, 0),
        ({}, lambda e: e.limits.value_length, None),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"}, lambda e: e.limits.value_length, 7),
        (
            {
                "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7",
                "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "",
            },
            lambda e: e.limits.value_length,
            7,
        ),
        ({}, lambda e: e.resource["service.name"], "unknown_service"),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=b%20c", "OTEL_SERVICE_NAME": "d"},
            lambda e: (e.resource["service.name"], e.resource["team"]),
            ("d", "b c"),
        ),
    ],
)
def test_the_rest_is_read_as_the_specification_says(
    variables: dict[str, str], read_value: Read, expected: object
) -> None:
    assert read_value(read(**variables)) == expected


NUMBERS = (
    *("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"),
    *("OTEL_BSP_EXPORT_TIMEOUT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    *("OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT"),
    *("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    *("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
)


@pytest.mark.parametrize("variable", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "many", "nan", "inf", "1e300", "²", "0x10", "9" * 5000])
def test_a_number_that_is_none_or_out_of_range_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: use a number"):
        read(**{variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"ftp://user:{CANARY}@collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"x-team={CANARY}%0A"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"x-team={CANARY}%0D%0Ax: y"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"x-team={CANARY}ä"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"x-team=sound,{CANARY}"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x team={CANARY}"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/key.pem"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_PROPAGATORS", "tracecontext,misspelt"),
        ("OTEL_PROPAGATORS", "tracecontext,"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_without_a_key(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**{variable: value})
    assert str(refused.value).startswith(f"{variable}: ")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("propagators", "w3c_only"),
    [
        ("", True),
        ("tracecontext,baggage", True),
        ("baggage, tracecontext", True),
        ("tracecontext", True),
        ("baggage", False),
        ("none", False),
        ("None,misspelt", False),
    ],
)
def test_a_caller_is_read_from_traceparent_alone_unless_propagators_say_else(
    propagators: str, w3c_only: bool
) -> None:
    assert read(OTEL_PROPAGATORS=propagators).w3c_only is w3c_only


@given(st.sampled_from(NUMBERS), st.text(st.characters(exclude_characters="\0")))
def test_no_text_at_all_makes_reading_fail_in_another_way(variable: str, value: str) -> None:
    try:
        read(**{variable: value})
    except SettingsError as refused:
        assert str(refused).startswith(variable)  # noqa: PT017 - most texts are refused


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"},
            True,
        ),
        ({"OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_SDK_DISABLED": "no"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": ""}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_spans_are_made_when_they_have_a_place_to_go(
    variables: dict[str, str], wanted: bool
) -> None:
    assert traces_wanted(COLLECTOR | variables) is wanted


@pytest.mark.parametrize("exporter", ["console", "zipkin", "otlp,console"])
def test_an_exporter_that_is_not_ours_is_named(exporter: str) -> None:
    with pytest.raises(SettingsError, match=r"^OTEL_TRACES_EXPORTER: use otlp or none"):
        traces_wanted(COLLECTOR | {"OTEL_TRACES_EXPORTER": exporter})
