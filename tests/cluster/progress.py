"""Progress of long work: which step, how many to go, how long so far.

Some steps take minutes on a first run, and a silent terminal looks like a hung one.
On a terminal the running step is redrawn every second; elsewhere (CI logs, pipes) plain lines
come out, with a sign of life every half minute.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LIFE_SIGN_SECONDS = 30.0
WIDTH = 64


class Progress:
    """Counts steps and prints them. One object is shared by everything a command does."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._live = self._stream.isatty()
        self._planned = 0
        self._begun = 0

    def plan(self, steps: int) -> None:
        """Announce `steps` more steps, so that "3/12" can be said from the first one on."""
        self._planned += steps

    def note(self, text: str) -> None:
        """Print a line that is not a step."""
        print(text, file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step while the body runs, then how long it took or that it failed."""
        self._begun += 1
        self._planned = max(self._planned, self._begun)
        head = heading(self._begun, self._planned, title)
        began = self._clock()
        over = threading.Event()
        self._stream.write(head if self._live else head.rstrip(". ") + "\n")
        self._stream.flush()
        ticker = threading.Thread(target=self._tick, args=(head, began, over), daemon=True)
        ticker.start()
        outcome = "failed after "
        try:
            yield
            outcome = ""
        finally:
            over.set()
            ticker.join()
            took = outcome + duration(self._clock() - began)
            self._stream.write(f"\r{head}{took}\033[K\n" if self._live else f"{head}{took}\n")
            self._stream.flush()

    def _tick(self, head: str, began: float, over: threading.Event) -> None:
        while not over.wait(1.0 if self._live else LIFE_SIGN_SECONDS):
            passed = duration(self._clock() - began)
            self._stream.write(f"\r{head}{passed}\033[K" if self._live else f"{head}{passed} …\n")
            self._stream.flush()


def heading(number: int, total: int, title: str) -> str:
    """`[ 3/12] build etcd ............ ` padded so that the times stand in one column."""
    digits = len(str(total))
    start = f"[{number:>{digits}}/{total}] {title} "
    return start + "." * max(3, WIDTH - len(start)) + " "


def duration(seconds: float) -> str:
    """A time as people say it: `0.4 s`, `38 s`, `4 min 38 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
