"""Sending what telemetry is still held, at the very end, without ever holding up the exit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from threading import Thread
from time import monotonic

logger = logging.getLogger(__name__)

Flusher = Callable[[float], bool | None]
"""Sends what it holds; may block, and is told for how many seconds. ``False``: not all was sent."""


async def flush(flushers: Mapping[str, Flusher], *, within: float) -> None:
    """Run all at once, each in a thread; one that fails or is too slow costs a log line."""
    deadline = monotonic() + within
    # Daemons: for other threads Python would wait before it exits, however long they take.
    threads = [
        Thread(target=_run, args=(name, flusher, within), name=name, daemon=True)
        for name, flusher in flushers.items()
    ]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(_join, threads, deadline)
    for thread in threads:
        if thread.is_alive():
            _regret(thread.name)


def _run(name: str, flusher: Flusher, within: float) -> None:
    try:
        # Less than it has: one that keeps to it tells by itself.
        if flusher(within * 0.9) is False:
            _regret(name)
    except Exception as error:
        # Only the type: the text may quote what was to be sent.
        logger.error("the last %s could not be sent (%s)", name, type(error).__name__)


def _regret(name: str) -> None:
    logger.error("the last %s were not all sent in time; what was left is lost", name)


def _join(threads: list[Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
