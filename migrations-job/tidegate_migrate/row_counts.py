"""How many rows a revision's statements have changed, for when it comes again. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

_DIGITS: Final = 12  # of each digest: it tells a revision's own statements apart


class RowCounts:
    """Notes the row counts of statements in their order, and gives them again.

    ``earlier`` is what another one has :meth:`written`. A statement is known by its text. One that
    comes again out of order, as what looks first does, is looked for further on.
    """

    def __init__(self, earlier: str = "") -> None:
        self._earlier = [_Run.read(each) for each in earlier.split()]
        self._noted: list[_Run] = []

    def note(self, text: str, count: int) -> None:
        """Take note of a statement that has changed so many rows, -1 where nobody told."""
        this = _Run(_known_by(text), count)
        if self._noted and self._noted[-1].is_like(this):
            self._noted[-1].times += 1
        else:
            self._noted.append(this)

    def again(self, text: str) -> int | None:
        """Return what the statement gave the other time, and note that; ``None``: nobody knows."""
        known = _known_by(text)
        for place, run in enumerate(self._earlier):
            if run.digest == known:
                run.times -= 1
                del self._earlier[: place if run.times else place + 1]
                self.note(text, run.count)
                return run.count
        return None

    def written(self) -> str:
        """Return all that was noted as a text."""
        return " ".join(map(str, self._noted))


class _Run:
    """The same statement with the same count, so many times: as in a loop over batches."""

    def __init__(self, digest: str, count: int, times: int = 1) -> None:
        self.digest = digest
        self.count = count
        self.times = times

    @staticmethod
    def read(text: str) -> _Run:
        digest, count, times = text.split(":")
        return _Run(digest, int(count), int(times))

    def is_like(self, other: _Run) -> bool:
        return (self.digest, self.count) == (other.digest, other.count)

    def __str__(self) -> str:
        return f"{self.digest}:{self.count}:{self.times}"


def _known_by(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_DIGITS]
