"""The line on a terminal that shows what a run is at, while it runs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from tidegate_migrate.progress import Progress
from tidegate_migrate.screen import Style

_EVERY: Final = 0.1  # seconds
_CLEAR: Final = "\r\x1b[K"


class Live:
    """Writes lines that stay, and below them one that changes."""

    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._style = Style(stream)
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._drawn = False
        self._running = self._waiting = self._said = ""
        self._since = self._waiting_since = self._said_at = time.monotonic()

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._said, self._said_at = line, time.monotonic()
        with self._writing:
            self._clear()
            print(self._style.lines(line), file=self._stream, flush=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the line for as long as the block runs."""
        thread = threading.Thread(target=self._draw, name="tidegate-live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.close()
            thread.join(1)

    def close(self) -> None:
        """Take the line away, for good."""
        self._over.set()
        with self._writing:
            self._clear()

    def _draw(self) -> None:
        while not self._over.wait(_EVERY):
            now = time.monotonic()
            progress = self._progress
            if progress.running != self._running:
                self._running, self._since = progress.running, now
            if progress.waiting != self._waiting:
                self._waiting, self._waiting_since = progress.waiting, now
            text = line(progress, now, since=self._since, waiting_since=self._waiting_since)
            if not text and self._said.startswith("waiting"):
                text = f"for {now - self._said_at:.0f} s now"
            width = shutil.get_terminal_size().columns
            with self._writing:
                if self._over.is_set():
                    return
                self._clear()
                if text:
                    # The cursor goes back to the first column: what others print takes its place.
                    print(f"{text[: width - 1]}\r", end="", file=self._stream, flush=True)
                    self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            print(_CLEAR, end="", file=self._stream, flush=True)
            self._drawn = False


def line(progress: Progress, now: float, *, since: float, waiting_since: float) -> str:
    """Return what a run is at, "" for nothing yet. Pure.

    Times are by ``time.monotonic()``: now, when the revision began, when its waiting began.
    """
    parts: list[str] = []
    if progress.running:
        number = f"{len(progress.applied) + 1} of {len(progress.planned)}"
        parts.append(f"{progress.running} ({number}) {now - since:.1f} s")
    if progress.waiting:
        parts.append(f"waits {now - waiting_since:.1f} s for a lock held by {progress.waiting}")
    parts += [
        f"holds {table} ({mode}) for {now - held:.1f} s"
        for table, (mode, held) in progress.locked.items()
    ]
    return "; ".join(parts)
