"""Every log line of the process through one pipeline: stdlib, structlog, uvicorn and gunicorn.

structlog's events become records of the standard library, so that levels, filters and pytest's
``caplog`` see them; one handler on the root logger scrubs and renders each record once and hands
it to the :class:`~tidegate.writer.Writer`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from datetime import time as clock_time
from functools import cache
from types import TracebackType
from typing import Any, Final, Literal

import orjson

from tidegate import exceptions
from tidegate.context import current_request
from tidegate.quiet import EXPORT, OncePerMinute
from tidegate.scrub import Scrubber
from tidegate.settings import Settings
from tidegate.writer import Writer

Format = Literal["json", "console", "off"]
Event = dict[str, Any]

logger = logging.getLogger(__name__)

_LONGEST: Final = 64 * 1024  # bytes of one line
_MESSAGE: Final = 16 * 1024  # characters of its message
_HEAD: Final[tuple[str, ...]] = (
    *("timestamp", "level", "logger", "message"),
    *("request_id", "trace_id", "span_id", "user_id"),
)
_FROM_STRUCTLOG: Final = "tidegate_event"
_LOGGED: Final = "__tidegate_logged__"
_TELL_UNHANDLED: Final = frozenset({"tidegate.error", "uvicorn.error", "gunicorn.error"})
_SERVERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "gunicorn.error")
_SERVERS_ACCESS: Final = ("uvicorn.access", "gunicorn.access")
# What every record has, and uvicorn's message for terminals.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "color_message", _FROM_STRUCTLOG)
}

_installed: _Handler | None = None
_quiet: Final = OncePerMinute()


def effective_format(settings: Settings) -> Format:
    """Return how lines are written: as set, else for people on a terminal and JSON elsewhere."""
    return settings.log_format or ("console" if os.isatty(1) else "json")


def install(settings: Settings) -> Writer | None:
    """Send every log record of the process through the pipeline, to stdout.

    May be called again, and should be once the server and the application have configured their
    own logging: each time, handlers that write to stdout or stderr are taken off, those of
    files and services never. structlog is configured unless the application did so itself.

    Returns:
        what writes the lines; ``None`` when ``TIDEGATE_LOG_FORMAT`` is ``off``.
    """
    global _installed
    how = effective_format(settings)
    root = logging.getLogger()
    if _installed:
        root.removeHandler(_installed)
        _installed = None
        if how == "off":
            logging.captureWarnings(False)
    if how == "off":
        logging.getLogger(EXPORT).addFilter(_quiet)  # the application's handlers are not ours
        return None
    logging.getLogger(EXPORT).removeFilter(_quiet)
    level = logging.getLevelName(settings.log_level.upper())
    writer = _stdout()
    _installed = _Handler(settings, writer, _console() if how == "console" else render_json)
    _installed.setLevel(level)
    root.addHandler(_installed)
    if root.level > level:
        root.setLevel(level)
    _adopt_servers(access_line=settings.access_log)
    _adopt_application()
    logging.captureWarnings(True)
    # Unless they are the application's; Python's own print the text to stderr.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_end
    # An application that logs with it has imported it by now, or at the latest when it starts.
    if "structlog" in sys.modules:
        _configure_structlog()
    return writer


def render_json(event: Event) -> bytes:
    """Return one line of JSON with its newline, at most 64 KiB long."""
    line = _dump(event)
    if len(line) <= _LONGEST:
        return line
    kept = {name: event[name] for name in _HEAD if name in event}
    kept["message"] = str(event["message"])[: _MESSAGE // 8]
    if "exception" in event:
        kept["exception"] = {"type": event["exception"]["type"]}
    return _dump(kept | {"cut": f"{len(line)} bytes"})


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, with microseconds."""
    whole, fraction = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{fraction:06d}Z"


class _Handler(logging.Handler):
    """Scrubs and renders a record, and hands it over; never raises."""

    def __init__(
        self, settings: Settings, writer: Writer, render: Callable[[Event], bytes]
    ) -> None:
        super().__init__()
        self._scrubber = Scrubber(settings.scrub_keys)
        self._exception_text = settings.exception_text
        self._writer = writer
        self._render = render
        self._for_a_person = render is not render_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless its exception or its complaint has been written already."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            if error and _is_told(error, record.name):
                return
            if not _quiet.filter(record):
                return
            self._writer.write(self._render(self._describe(record, error)))
            if error:
                exceptions.mark(error, _LOGGED, _occasion())
        except Exception as fault:
            self._writer.write(self._render(_confess(record, fault)))

    def _describe(self, record: logging.LogRecord, error: BaseException | None) -> Event:
        scrubber = self._scrubber
        if not (self._exception_text or self._for_a_person):
            # Also that of an exception which is only being handled, or is an argument: people
            # write f"failed: {error}".
            quoted = [each for each in (error, sys.exception()) if each]
            quoted += _exceptions_in(record)
            if quoted:
                scrubber = scrubber.withholding(set().union(*map(exceptions.texts, quoted)))
        own = _own_keys(record)
        message = own.pop("event", "") if isinstance(record.msg, dict) else record.getMessage()
        event: Event = {
            "timestamp": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrubber.text(str(message), _MESSAGE),
            **_ids(),
        }
        for name, value in scrubber.mapping(own).items():
            event[f"{name}_" if name in event or name == "exception" else name] = _plain(
                value, scrubber
            )
        if error:
            event["exception"] = self._describe_exception(error)
        if record.stack_info:
            event["stack"] = _without_source(record.stack_info)
        return event

    def _describe_exception(self, error: BaseException) -> Any:  # noqa: ANN401
        if self._for_a_person:
            return self._scrubber.text("".join(traceback.format_exception(error)))
        return exceptions.describe(error, self._scrubber.text if self._exception_text else None)


def _is_told(error: BaseException, name: str) -> bool:
    """Whether somebody has logged this exception that ``name`` logs because nobody handled it."""
    if name in _SERVERS:  # where the request is over already, and nobody else has the last word
        return exceptions.is_marked(error, _LOGGED)
    return name in _TELL_UNHANDLED and exceptions.is_marked(error, _LOGGED, _occasion())


def _occasion() -> str:
    request = current_request()
    return request.span_id if request else f"thread {threading.get_ident()}"


def _log_end(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
    """Log what ends the process."""
    if _installed is None or not isinstance(error, Exception):
        sys.__excepthook__(kind, error, stack)
        return
    logging.getLogger("tidegate.error").critical(
        "Unhandled exception; the process ends", exc_info=error
    )


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    """Log what ended a thread."""
    if failed.exc_value is None or isinstance(failed.exc_value, SystemExit):
        return
    name = failed.thread.name if failed.thread else "unknown"
    logging.getLogger("tidegate.error").error(
        "Unhandled exception in thread %s", name, exc_info=failed.exc_value
    )


def _ids() -> Event:
    """What joins the line to a request, and to the span that runs now."""
    ids: Event = {}
    if request := current_request():
        ids = {
            "request_id": request.request_id,
            "trace_id": request.trace_id,
            "span_id": request.span_id,
        }
        if request.user_id is not None:
            ids["user_id"] = request.user_id
    # Whoever makes spans has imported it; asking costs a microsecond, importing it would not.
    if get_current_span := getattr(
        sys.modules.get("opentelemetry.trace"), "get_current_span", None
    ):
        span = get_current_span().get_span_context()
        if span.is_valid:
            ids["trace_id"] = f"{span.trace_id:032x}"
            ids["span_id"] = f"{span.span_id:016x}"
    return ids


def _own_keys(record: logging.LogRecord) -> Event:
    own = {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_")
    }
    own |= getattr(record, _FROM_STRUCTLOG, {})
    if isinstance(record.msg, dict):
        own |= record.msg
    return own


def _exceptions_in(record: logging.LogRecord) -> list[BaseException]:
    """The exceptions that are arguments or own keys of a record, or in a list of those."""
    arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    found: list[BaseException] = []
    for value in (record.msg, *arguments, *_own_keys(record).values()):
        members = value if isinstance(value, (list, tuple)) else (value,)
        found += [each for each in members if isinstance(each, BaseException)]
    return found


def _plain(value: Any, scrubber: Scrubber) -> Any:  # noqa: ANN401 - whatever was logged
    """Return the value as JSON knows it; of what JSON does not know, its text."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # JSON has no such number
    if isinstance(value, (date, clock_time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(each, scrubber) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, scrubber) for each in value]
    if isinstance(value, BaseException):
        return exceptions.type_name(value)
    try:
        return scrubber.text(str(value), _MESSAGE)
    except Exception:
        return f"<{type(value).__qualname__} that cannot be printed>"


def _without_source(stack: str) -> str:
    return "\n".join(line for line in stack.splitlines() if line.startswith('  File "'))


def _confess(record: logging.LogRecord, fault: Exception) -> Event:
    """A record that cannot be formatted is still news, and so is where it was made."""
    return {
        "timestamp": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": f"a log record made in {record.pathname}, line {record.lineno} could not be "
        f"written ({exceptions.type_name(fault)}); do its arguments fit its message?",
    }


def _describe_loss(lost: int) -> bytes:
    event = {
        "timestamp": timestamp(time.time()),
        "level": "warning",
        "logger": __name__,
        "message": f"{lost} log lines were dropped: whoever reads stdout was too slow",
        "dropped": lost,
    }
    return _installed._render(event) if _installed else render_json(event)


def _dump(event: Event) -> bytes:
    try:
        return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer of more than 64 bits, half of a surrogate pair
        return json.dumps(event, default=str).encode("ascii") + b"\n"


@cache
def _stdout() -> Writer:
    return Writer(1, _describe_loss)


_latest_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _second(whole: int) -> str:
    global _latest_second
    second, text = _latest_second
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _latest_second = whole, text
    return text


def _console() -> Callable[[Event], bytes]:
    from structlog.dev import ConsoleRenderer

    # Not its own formatter of exceptions: with rich installed that one shows local variables.
    renderer = ConsoleRenderer(colors=os.isatty(1), event_key="message")

    def render(event: Event) -> bytes:
        text = renderer(None, event["level"], dict(event))
        return f"{text}\n".encode("utf-8", "backslashreplace")

    return render


def _adopt_servers(*, access_line: bool) -> None:
    """Let the servers' records reach the root logger, each once."""
    for name in (*_SERVERS, *_SERVERS_ACCESS):
        server = logging.getLogger(name)
        if name in _SERVERS_ACCESS and not server.hasHandlers():
            continue  # --no-access-log
        for handler in list(server.handlers):
            if _is_a_servers(handler) or _is_of_the_console(handler):
                server.removeHandler(handler)
        # The hook writes the access line, with the route's template and without the query.
        server.propagate = not (access_line and name in _SERVERS_ACCESS)


def _adopt_application() -> None:
    """Let every record reach the root logger, and nothing else write it to the console."""
    taken: list[str] = []
    for each in (logging.root, *list(logging.root.manager.loggerDict.values())):
        if not isinstance(each, logging.Logger):
            continue
        if each.name.partition(".")[0] == "tidegate" or each.name in {*_SERVERS, *_SERVERS_ACCESS}:
            each.disabled = False  # dictConfig disables what it does not name
        for handler in list(each.handlers):
            if _is_of_the_console(handler):
                each.removeHandler(handler)
                each.propagate = True
                taken.append(each.name)
    if taken:
        _say_what_is_taken(", ".join(dict.fromkeys(taken)))


@cache
def _say_what_is_taken(names: str) -> None:
    logger.info(
        "The application's handlers for stdout or stderr are taken off these loggers, since "
        "their lines are written here: %s. Set TIDEGATE_LOG_FORMAT=off to keep them instead.",
        names,
    )


def _is_of_the_console(handler: logging.Handler) -> bool:
    return (
        isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and handler.stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    )


def _is_a_servers(handler: logging.Handler) -> bool:
    return (
        getattr(handler, "_gunicorn", False)
        or type(handler.formatter).__module__ == "uvicorn.logging"
    )


def _configure_structlog() -> None:
    import structlog

    if not structlog.is_configured():
        # A logger that was bound already has this very list, and prints what comes out of it.
        structlog.get_config()["processors"][:] = [
            structlog.contextvars.merge_contextvars,
            _send_early,
        ]
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                _to_record,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
    elif not isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory):
        _say_structlog_is_apart()


@cache
def _say_structlog_is_apart() -> None:
    logger.warning(
        "The application configures structlog itself: those lines carry no ids of the request "
        "and are not scrubbed. Remove its structlog.configure(), or use "
        "structlog.stdlib.LoggerFactory() there."
    )


def _send_early(_: object, method: str, event: Any) -> Any:  # noqa: ANN401
    """The last processor of a logger that was bound before structlog was configured."""
    import structlog

    factory = structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__])
    arguments, named = _to_record(_, method, event)
    level = logging.getLevelNamesMapping().get(method.upper(), logging.INFO)
    factory().log(level, *arguments, **named)
    raise structlog.DropEvent


def _to_record(_: object, __: str, event: Any) -> tuple[tuple[Any, ...], Event]:  # noqa: ANN401
    """structlog's last processor: the arguments of a call to a standard logger."""
    arguments: Event = {
        name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event
    }
    message = event.pop("event", "")
    positional = event.pop("positional_args", ())
    return (message, *positional), {**arguments, "extra": {_FROM_STRUCTLOG: event}}
