"""The same complaint once a minute: for loggers that speak for every export that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EXPORT: Final = "tidegate.export"
"""The logger for what cannot be sent to a collector or to Sentry."""

_TALKATIVE: Final = ("opentelemetry", "sentry_sdk", "urllib3.connectionpool", EXPORT)
_OF_THE_SDK: Final = ("opentelemetry.sdk", "opentelemetry.exporter")  # one failure, many loggers
_EVERY: Final = 60.0  # seconds


class OncePerMinute(logging.Filter):
    """Passes one warning a minute about each back end, with the count of those between.

    The count is the record's attribute ``left_out``; records of other loggers all pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the record."""
        if record.levelno < logging.WARNING or not record.name.startswith(_TALKATIVE):
            return True
        name = _subject(record)
        now = self._clock()
        if name in self._last and now - self._last[name] < _EVERY:
            self._left_out[name] += 1
            return False
        self._last[name] = now
        if left_out := self._left_out.get(name):
            record.left_out = left_out
        self._left_out[name] = 0
        return True


def _subject(record: logging.LogRecord) -> str:
    if record.name == EXPORT:  # for the collector and for Sentry: what does not change tells which
        return str(record.msg)
    return _OF_THE_SDK[0] if record.name.startswith(_OF_THE_SDK) else record.name
