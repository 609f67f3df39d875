"""The exporter: what one span or one collector does wrong costs nobody else anything."""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass

import pytest

from tidegate import otlp
from tidegate.export import Batching, Post, RefusedError, RetryError, SpanExporter

CANARY = "c4n4ry-7f3a"


@dataclass
class Written:
    """A span that is bytes already, or cannot be."""

    content: bytes | None
    scope: bytes = b""

    def encode(self) -> bytes:
        if self.content is None:
            raise RecursionError(CANARY)
        return self.content


def exporter_to(post: Post, batching: Batching | None = None) -> SpanExporter:
    return SpanExporter(lambda: post, b"", batching)


def test_a_span_that_cannot_be_encoded_is_the_only_one_that_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[bytes] = []
    exporter = exporter_to(lambda request, _: sent.append(request))
    for content in (b"one", None, b"two"):
        exporter.add(Written(content))
    assert exporter.flush(10)
    assert sent == [otlp.request(b"", {b"": [b"one", b"two"]})]
    assert (exporter.sent, exporter.dropped) == (2, 1)
    assert "RecursionError" in caplog.text
    assert CANARY not in caplog.text


def test_an_error_that_nobody_foresaw_is_told_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def post(_request: bytes, _timeout: float) -> None:
        raise ValueError(f"Invalid header value b'{CANARY}'")

    exporter = exporter_to(post)
    exporter.add(Written(b"one"))
    exporter.flush(10)
    assert exporter.dropped == 1
    assert "ValueError" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RefusedError("HTTP 401"), "HTTP 401"),
        (RetryError("HTTP 503", after=600), "HTTP 503"),
        (ValueError(CANARY), "ValueError"),
    ],
)
def test_the_reason_is_told_while_no_exception_is_handled(error: Exception, reason: str) -> None:
    # The log pipeline withholds the text of one that is: the reason would be gone.
    told: list[tuple[str, object]] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append((record.getMessage(), sys.exc_info()[1]))

    def post(_request: bytes, _timeout: float) -> None:
        raise error

    exporter = exporter_to(post)
    handler = Notes()
    logging.getLogger("tidegate.export").addHandler(handler)
    try:
        exporter.add(Written(b"one"))
        assert exporter.flush(10)
    finally:
        logging.getLogger("tidegate.export").removeHandler(handler)
    ((message, handled),) = told
    assert f"({reason})" in message
    assert handled is None


def test_a_flush_waits_as_long_as_a_busy_collector_asks() -> None:
    asked: list[float] = []

    def post(_request: bytes, _timeout: float) -> None:
        asked.append(time.monotonic())
        raise RetryError("HTTP 429", after=0.3)

    exporter = exporter_to(post)
    exporter.add(Written(b"one"))
    assert exporter.flush(1.0)
    assert 2 <= len(asked) <= 4
    assert exporter.dropped == 1


def test_a_flush_that_begins_during_a_pause_does_not_wait_for_its_end() -> None:
    asked = threading.Semaphore(0)

    def post(_request: bytes, _timeout: float) -> None:
        asked.release()
        raise RetryError("HTTP 503", after=60)

    exporter = exporter_to(post, Batching(max_batch=1, timeout=100))
    exporter.add(Written(b"one"))
    assert asked.acquire(timeout=10)
    started = time.monotonic()
    assert exporter.flush(5)
    assert time.monotonic() - started < 5
    assert exporter.dropped == 1
