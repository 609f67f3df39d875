"""Takes spans to the collector, from a thread of its own.

The queue is bounded and what does not fit is counted: a collector that is down, slow or answers
garbage costs spans, never a request.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tidegate import otlp

logger = logging.getLogger("tidegate.export")

_GATHER = 64  # spans that wait to be encoded together
_TELL_EVERY = 60.0  # seconds between two log lines about a collector that does not take spans


class RetryError(Exception):
    """The collector took nothing, and the same request may do better later.

    Args:
        reason: what went wrong, in words.
        after: how many seconds the collector asks to wait.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class RefusedError(Exception):
    """The collector will never take this request; the text says why."""


class Span(Protocol):
    """What is exported: encoded in the exporter's thread, when its turn comes."""

    @property
    def scope(self) -> bytes:
        """The instrumentation scope, encoded."""

    def encode(self) -> bytes:
        """Return the span as :func:`tidegate.otlp.span` does."""


Post = Callable[[bytes, float], None]
"""Sends one request within so many seconds, or raises RetryError or RefusedError."""


@dataclass(frozen=True, slots=True)
class Batching:
    """When spans are sent; the names and defaults of OpenTelemetry's ``OTEL_BSP_*``."""

    max_queue: int = 2048
    max_batch: int = 512
    delay: float = 5.0
    """Seconds until a batch that is not full is sent."""
    timeout: float = 10.0
    """Seconds that one batch may take, with all its retries."""


class SpanExporter:
    """Collects spans from any thread, sends them from its own.

    Args:
        connect: makes ``Post``; called in the exporter's thread, where heavy imports hurt nobody.
        resource: encoded by :func:`tidegate.otlp.resource`.
    """

    def __init__(
        self, connect: Callable[[], Post], resource: bytes, batching: Batching | None = None
    ) -> None:
        self._connect = connect
        self._resource = resource
        self._batching = batching or Batching()
        self._queue: deque[Span] = deque()
        # A span that waits as an object takes ten times the room of an encoded one: a few gather,
        # so that the thread wakes seldom, then they are encoded and wait for their batch.
        self._gather = min(_GATHER, self._batching.max_batch)
        self._encoded: deque[tuple[bytes, bytes]] = deque()
        self._due = 0.0
        self._wake = threading.Condition()
        self._busy = False
        self._flush_until: float | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._told = -_TELL_EVERY
        self.sent = 0
        """Spans that the collector took."""
        self.dropped = 0
        """Spans that it did not: the queue was full, or the collector refused or never came."""

    def add(self, span: Span) -> None:
        """Queue a span that has ended; never waits."""
        queue = self._queue
        if len(queue) + len(self._encoded) >= self._batching.max_queue:
            self.dropped += 1
            return
        queue.append(span)
        if len(queue) == self._gather or self._pid != os.getpid():
            self._rouse()

    def flush(self, timeout: float) -> bool:
        """Send what is queued; return whether that was done within ``timeout`` seconds."""
        with self._wake:
            if self._is_empty():
                return True
        self._rouse()
        with self._wake:
            self._flush_until = time.monotonic() + timeout
            self._wake.notify_all()
            done = self._wake.wait_for(self._is_empty, timeout)
            self._flush_until = None
        return done

    def _rouse(self) -> None:
        with self._wake:
            if self._pid != os.getpid():  # not after a fork: its threads stayed behind
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=self._run, name="tidegate-export", daemon=True
                )
                self._thread.start()
            self._wake.notify_all()

    def _run(self) -> None:
        post: Post | None = None
        while True:
            with self._wake:
                in_time = self._wake.wait_for(self._has_work, self._patience())
                self._busy = True
            self._encode()
            if not in_time:
                self._due = 0.0
            while batch := self._take():
                try:
                    post = post or self._connect()
                    lost = self._send(post, self._request(batch))
                except Exception as error:  # whatever it is, the next batch gets its chance
                    # Only the type: the text may quote a header with a key.
                    lost = type(error).__name__
                if lost:
                    self._lose(len(batch), lost)
                else:
                    self.sent += len(batch)
                self._encode()
            with self._wake:
                self._busy = False
                self._wake.notify_all()

    def _is_empty(self) -> bool:
        return not self._queue and not self._encoded and not self._busy

    def _has_work(self) -> bool:
        return len(self._queue) >= self._gather or (
            self._flush_until is not None and bool(self._queue or self._encoded)
        )

    def _patience(self) -> float:
        if not self._encoded:
            return self._batching.delay
        return max(0.0, self._due - time.monotonic())

    def _encode(self) -> None:
        """Encode what is queued."""
        if self._queue and not self._encoded:
            self._due = time.monotonic() + self._batching.delay
        for _ in range(len(self._queue)):
            span = self._queue.popleft()
            failed = ""
            try:
                self._encoded.append((span.scope, span.encode()))
            except Exception as error:  # a value of the application's: the others can go
                failed = type(error).__name__
            if failed:
                self._lose(1, f"one could not be encoded: {failed}")

    def _take(self) -> list[tuple[bytes, bytes]]:
        """Return a batch that is full or due."""
        encoded, most = self._encoded, self._batching.max_batch
        due = self._flush_until is not None or time.monotonic() >= self._due
        if len(encoded) < most and not due:
            return []
        return [encoded.popleft() for _ in range(min(len(encoded), most))]

    def _request(self, batch: list[tuple[bytes, bytes]]) -> bytes:
        scopes: dict[bytes, list[bytes]] = {}
        for scope, span in batch:
            scopes.setdefault(scope, []).append(span)
        return otlp.request(self._resource, scopes)

    def _send(self, post: Post, request: bytes) -> str:
        """Send until it is taken; return why it is not, else an empty text."""
        deadline = time.monotonic() + self._batching.timeout
        pause = 1.0
        while True:
            try:
                post(request, self._left(deadline))
            except RetryError as error:
                pause, backoff = pause * 2, pause * random.uniform(0.8, 1.2)  # noqa: S311
                wait = backoff if error.after is None else error.after
                if wait > self._left(deadline):
                    return str(error)
                self._pause(wait)
            except RefusedError as error:
                return str(error)
            else:
                return ""

    def _pause(self, seconds: float) -> None:
        with self._wake:
            # A flush that begins now leaves less time: see again then. One that is under way is
            # no reason to ask a collector that is down again and again.
            known = (None, self._flush_until)
            self._wake.wait_for(lambda: self._flush_until not in known, seconds)

    def _left(self, deadline: float) -> float:
        until = self._flush_until
        return max(0.0, min(deadline, until or deadline) - time.monotonic())

    def _lose(self, count: int, reason: str) -> None:
        # Never while an exception is handled: its text, the reason, would be withheld from logs.
        self.dropped += count
        if time.monotonic() - self._told >= _TELL_EVERY:
            self._told = time.monotonic()
            logger.warning(
                "The OpenTelemetry collector did not take %d spans (%s); %d are lost so far. "
                "Requests are not affected; see OTEL_EXPORTER_OTLP_ENDPOINT",
                count,
                reason,
                self.dropped,
            )
