"""How words look to a person: colour on a terminal, and tables. Pure but for asking the stream."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final, TextIO

_RESET: Final = "\x1b[0m"
_COLOURS: Final = {
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
}
# How a line begins that is worth a colour: lint's findings, a run's steps, a verdict.
_BEGINNINGS: Final = (
    (r"\S+: (error):", "red"),
    (r"\S+: (warning):", "yellow"),
    (r"\S+: (ignored):", "dim"),
    (r"(tidegate migrate|\S+ failed)\b", "red"),
    (r"(applied)\b", "green"),
    (r"(waiting)\b", "yellow"),
    (r"verdict (current|ahead-compatible)\b", "green"),
    (r"verdict (behind|contract-pending)\b", "yellow"),
    (r"verdict (ahead-incompatible|unknown)\b", "red"),
)


class Style:
    """Colours text for one stream, or leaves it as it is where nobody would see colours.

    ``NO_COLOR``, set to anything, and ``TERM=dumb`` switch them off (https://no-color.org).
    """

    def __init__(self, stream: TextIO) -> None:
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = wanted and stream.isatty()

    def __call__(self, colour: str, text: str) -> str:
        """Return the text in a colour."""
        return f"{_COLOURS[colour]}{text}{_RESET}" if self.on else text

    def lines(self, text: str) -> str:
        """Colour the one word in each line that says how it stands."""
        return "\n".join(map(self._line, text.split("\n"))) if self.on else text

    def _line(self, line: str) -> str:
        for beginning, colour in _BEGINNINGS:
            if found := re.match(beginning, line):  # compiled once, when first asked
                start, end = found.span(1)
                return line[:start] + self(colour, line[start:end]) + line[end:]
        return line


def number(count: int, noun: str) -> str:
    """Return ``1 error``, ``2 errors``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def harmless(text: str) -> str:
    """Return a text that somebody wrote into a table without what would steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)


def table(style: Style, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns as wide as they need to be, without a trailing line break."""
    rows = [list(map(harmless, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{cell:<{n}}" for cell, n in zip(cells, widths, strict=True)).rstrip()

    return "\n".join([style("bold", line(headings)), *map(line, rows)])
