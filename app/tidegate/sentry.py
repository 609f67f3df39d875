"""Errors to Sentry: built and sent by a thread of their own, with nothing that a client sent.

Nothing of the SDK is imported before the first error: it takes a tenth of a second and 10 MB,
and most processes end without one.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tidegate import exceptions
from tidegate.context import RequestContext
from tidegate.quiet import EXPORT
from tidegate.scrub import Scrubber
from tidegate.settings import Settings, SettingsError

if TYPE_CHECKING:
    from sentry_sdk.client import BaseClient

logger = logging.getLogger(EXPORT)

_WAITING: Final = 100  # errors that wait to be sent; more are counted and dropped
_PAUSE: Final = 0.05  # seconds between two: a storm of errors must not take the requests' CPU
_CAPTURED: Final = "__tidegate_captured__"
# Of an event; `request`, `breadcrumbs`, `modules` and whatever else comes are left out.
_KEPT: Final = frozenset(
    {
        *("event_id", "type", "timestamp", "level", "logger", "platform", "sdk"),
        *("release", "dist", "environment", "server_name", "transaction", "transaction_info"),
        *("message", "logentry", "exception", "fingerprint", "contexts", "tags", "extra", "user"),
    }
)
_OF_A_FRAME: Final = ("vars", "pre_context", "context_line", "post_context")
_THEIR_OWN: Final = ("fastapi", "starlette")


def install(settings: Settings, environment: Mapping[str, str] = os.environ) -> Sentry | None:
    """Return what sends errors to the project that ``SENTRY_DSN`` names; ``None`` without it.

    The SDK is initialised with the first error; at once if the application has imported it
    already, so that the application's own calls work. One that the application has initialised
    stays as it is, and errors go through it.

    Raises:
        SettingsError: ``SENTRY_DSN`` is no DSN, or sentry-sdk is not installed.
    """
    dsn = environment.get("SENTRY_DSN", "").strip()
    if not dsn:
        return None
    _check(dsn)
    if "sentry_sdk" not in sys.modules and find_spec("sentry_sdk") is None:
        raise SettingsError(
            "SENTRY_DSN is set but sentry-sdk is not installed; "
            "install tidegate[sentry], or unset SENTRY_DSN"
        )
    sentry = Sentry(dsn, Scrubber(settings.scrub_keys), exception_text=settings.exception_text)
    if "sentry_sdk" in sys.modules:
        sentry.connect()
    return sentry


@dataclass(frozen=True, slots=True)
class _Captured:
    """An error and what its request was, taken when it happened."""

    error: BaseException
    time: float
    request_id: str
    trace_id: str
    span_id: str
    user_id: str | None
    transaction: str


@dataclass(frozen=True, slots=True)
class _Flush:
    deadline: float
    done: threading.Event = field(default_factory=threading.Event)


class Sentry:
    """Takes errors without waiting, and sends them from a thread that the first one starts."""

    def __init__(self, dsn: str, scrubber: Scrubber, *, exception_text: bool) -> None:
        self._dsn = dsn
        self._scrubber = scrubber
        self._exception_text = exception_text
        self._ours: BaseClient | None = None
        self._connecting = threading.Lock()
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.dropped = 0
        """Errors that were not sent because too many waited."""
        self._queue: queue.Queue[_Captured | _Flush] = queue.Queue(_WAITING)
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def capture(self, error: BaseException, context: RequestContext, transaction: str) -> None:
        """Send this error of this request, once; ``transaction`` is ``GET /route/{template}``."""
        if exceptions.is_marked(error, _CAPTURED, context.span_id):
            return
        exceptions.mark(error, _CAPTURED, context.span_id)
        captured = _Captured(
            error,
            time.time(),
            context.request_id,
            context.trace_id,
            context.span_id,
            context.user_id,
            transaction,
        )
        try:
            self._queue.put_nowait(captured)
        except queue.Full:
            self.dropped += 1
            return
        self._start()

    def flush(self, timeout: float = 2.0) -> bool:
        """Send what waits; return whether all of it was within ``timeout`` seconds. Blocks."""
        if self._thread is None:
            return True
        flush = _Flush(time.monotonic() + timeout)
        self._hurry.set()
        try:
            self._queue.put(flush, timeout=timeout)
        except queue.Full:
            return False
        return flush.done.wait(max(0.0, flush.deadline - time.monotonic()))

    def connect(self) -> BaseClient:
        """Return the SDK's client; initialise the SDK unless somebody has."""
        import sentry_sdk

        with self._connecting:
            client = sentry_sdk.get_client()
            if not client.is_active():
                sentry_sdk.init(**self._options())
                client = self._ours = sentry_sdk.get_client()
            elif client is not self._ours:
                _say_it_is_theirs(_captures_itself(client))
            return client

    def _options(self) -> dict[str, Any]:
        from sentry_sdk.transport import HttpTransport

        class Transport(HttpTransport):
            def on_dropped_event(self, _reason: str) -> None:
                logger.warning("Sentry did not take an event: %s", _reason)

            def _get_pool_options(self) -> dict[str, Any]:
                # Each retry would be a log line of urllib3's, beside ours that the event is lost.
                return {**super()._get_pool_options(), "retries": False}

        # Neither `send_default_pii` nor `data_collection`: one of them set, even to nothing,
        # makes the SDK collect more than with both unset. `before_send` has the last word.
        return {
            "dsn": self._dsn,
            "transport": Transport,
            "before_send": lambda event, _hint: self._clean(event),
            "before_breadcrumb": lambda _breadcrumb, _hint: None,
            "max_breadcrumbs": 0,
            "default_integrations": False,
            "auto_enabling_integrations": False,
            "auto_session_tracking": False,
            "enable_backpressure_handling": False,
            "send_client_reports": False,
            "max_request_body_size": "never",
            "include_local_variables": False,
            "include_source_context": False,
            "propagate_traces": False,
            "spotlight": False,
            "shutdown_timeout": 0,
        }

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="tidegate-sentry", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            try:
                if isinstance(item, _Flush):
                    self._hurry.clear()
                    self.connect().flush(timeout=max(0.0, item.deadline - time.monotonic()))
                    item.done.set()
                else:
                    self._send(item)
            except Exception as error:
                logger.warning("an error could not be sent to Sentry", exc_info=error)
            self._hurry.wait(_PAUSE)

    def _send(self, captured: _Captured) -> None:
        from sentry_sdk import capture_event
        from sentry_sdk.utils import event_from_exception

        client = self.connect()
        if client is not self._ours and _captures_itself(client):
            return
        event, hint = event_from_exception(
            captured.error,
            # Not only in our own options: a client of the application's collects variables.
            {**client.options, "include_local_variables": False, "include_source_context": False},
            mechanism={"type": "tidegate", "handled": False},
        )
        event |= {
            "timestamp": datetime.fromtimestamp(captured.time, UTC),
            "transaction": captured.transaction,
            "transaction_info": {"source": "route"},
            "contexts": {"trace": {"trace_id": captured.trace_id, "span_id": captured.span_id}},
            "tags": {"request_id": captured.request_id},
        }
        if captured.user_id is not None:
            event["user"] = {"id": captured.user_id}
        capture_event(self._clean(event), hint)

    def _clean(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a TypedDict of the SDK's
        """Keep what says where it failed; scrub the rest."""
        kept = {name: value for name, value in event.items() if name in _KEPT}
        for error in (kept.get("exception") or {}).get("values") or ():
            if not self._exception_text:
                error.pop("value", None)
            for frame in (error.get("stacktrace") or {}).get("frames") or ():
                for name in _OF_A_FRAME:
                    frame.pop(name, None)
        if "user" in kept:
            kept["user"] = {"id": (kept["user"] or {}).get("id")}
        return self._scrubber.mapping(kept)


def _check(dsn: str) -> None:
    try:
        parts = urlsplit(dsn)
        _ = parts.port
        project = parts.path.rpartition("/")[2]
        sound = parts.scheme in {"http", "https"} and parts.username and parts.hostname
    except ValueError:
        project, sound = "", None
    if not (sound and project.isascii() and project.isdigit()):
        # Without the value: it holds a key.
        raise SettingsError(
            "SENTRY_DSN is no DSN of Sentry; it must look like "
            "https://<key>@<host>/<project number>. "
            "Copy it from the project's settings, or unset it to send nothing"
        )


def _captures_itself(client: BaseClient) -> bool:
    return any(name in client.integrations for name in _THEIR_OWN)


@cache
def _say_it_is_theirs(captures_itself: bool) -> None:
    logging.getLogger(__name__).warning(
        "The application initialises sentry_sdk itself: it stays as it is, and so does what it "
        "collects. %s Remove its sentry_sdk.init() to send errors without what clients sent.",
        "Its FastAPI integration captures errors, so Tidegate sends none."
        if captures_itself
        else "Tidegate sends errors through it.",
    )
