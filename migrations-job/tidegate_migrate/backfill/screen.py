"""Where progress is shown: one line that changes, a line now and then, or JSON for a machine."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final, Protocol, TextIO

from tidegate_migrate.backfill.progress import Progress, line

_LINE_EVERY: Final = 5.0  # seconds
_REDRAW_EVERY: Final = 0.2
_JSON_EVERY: Final = 1.0


class Screen(Protocol):
    """What a run tells about itself."""

    def say(self, text: str) -> None:
        """Tell something that happened once."""

    def show(self, progress: Progress) -> None:
        """Tell how far it is; called after every batch, shown as often as is of use."""

    def close(self) -> None:
        """Leave a screen on which others can write."""


def screen(*, as_json: bool) -> Screen:
    """Return the one that fits: JSON on stdout, or people's lines on stderr."""
    if as_json:
        return Json(sys.stdout)
    return Terminal(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)


class Lines:
    """A line every few seconds, for logs. A new reason to pause is told at once."""

    def __init__(self, stream: TextIO, every: float = _LINE_EVERY) -> None:
        self._stream = stream
        self._when = _Rhythm(every)

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)

    def show(self, progress: Progress) -> None:
        """Write a line when it is time."""
        if self._when.due(progress):
            self.say(line(progress))

    def close(self) -> None:
        """Nothing is left open."""


class Terminal:
    """One line that is written over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._when = _Rhythm(_REDRAW_EVERY)
        self._drawn = False

    def say(self, text: str) -> None:
        """Write a line that stays, in the place of the one that changes."""
        self.close()
        print(text, file=self._stream, flush=True)

    def show(self, progress: Progress) -> None:
        """Draw the line anew."""
        if self._when.due(progress):
            width = os.get_terminal_size(self._stream.fileno()).columns
            print(f"\r\x1b[K{line(progress)[: width - 1]}", end="", file=self._stream, flush=True)
            self._drawn = True

    def close(self) -> None:
        """Take the changing line away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._drawn = False


class Json:
    """One object a line: ``message``, ``progress``, and at the end ``finished`` or ``failed``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._when = _Rhythm(_JSON_EVERY)

    def say(self, text: str) -> None:
        """Write a message."""
        self.event("message", message=text)

    def show(self, progress: Progress) -> None:
        """Write how far it is when it is time."""
        if self._when.due(progress):
            self.event("progress", **progress.to_dict())

    def event(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Write one object."""
        print(json.dumps({"event": kind, **fields}, default=str), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class _Rhythm:
    """Tells whether to show a progress: in its own time, or at once when a pause begins."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = 0.0
        self._paused = False

    def due(self, progress: Progress) -> bool:
        paused = progress.paused is not None
        new = paused and not self._paused
        self._paused = paused
        now = time.monotonic()
        if now < self._next and not new:
            return False
        self._next = now + self._every
        return True
