"""Where a reader of events stands: pure.

Ids of rows are given before their transactions commit, and not in the order of the commits. A
reader that remembers the highest id it has seen passes over what commits late with a lower one. So
a reader remembers a snapshot instead: which transactions had committed when it looked. The next
look is for what has committed since, neither more nor less, and a transaction that stays open for
an hour keeps nobody waiting but its own reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

KEPT: Final = timedelta(days=7)
"""For so long events are kept."""
RESUMABLE: Final = timedelta(days=6)
"""So old may a reader's last look be: less, since an event is as old as its transaction's start."""

_LONGEST: Final = 8000  # characters: room for some 700 open transactions
_HIGHEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EventCursor:
    """A snapshot of the database, and when it was taken."""

    at: int
    """Seconds since 1970, by the database's clock."""
    end: int
    """Transactions from this one on had not begun."""
    running: frozenset[int]
    """Transactions before it that had not ended."""

    @classmethod
    def of_snapshot(cls, at: int, snapshot: str) -> EventCursor:
        """Read what PostgreSQL writes: ``xmin:xmax:running,running``."""
        _, end, running = snapshot.split(":")
        return cls(at, int(end), frozenset(map(int, filter(None, running.split(",")))))

    @classmethod
    def parse(cls, text: str) -> EventCursor:
        """Read what a client gives back.

        Raises:
            ValueError: it is none of ours.
        """
        parts = text.split(".") if text.isascii() and len(text) <= _LONGEST else []
        if len(parts) < 2 or not all(part.isdigit() and len(part) < 20 for part in parts):
            raise ValueError("it is no id of an event")
        at, end, *running = map(int, parts)
        if max(at, end, *running, 0) > _HIGHEST or any(each >= end for each in running):
            raise ValueError("it is no id of an event")
        return cls(at, end, frozenset(running))

    def sees(self, transaction: int) -> bool:
        """Whether what the transaction wrote was there to be seen."""
        return transaction < self.end and transaction not in self.running

    def can_be_resumed(self, now: EventCursor) -> bool:
        """Whether all that this one has not seen is kept still, and in this database."""
        return now.at - self.at <= RESUMABLE.total_seconds() and self.end <= now.end

    def having_read_before(self, transaction: int, until: EventCursor) -> EventCursor:
        """Return where a reader stands on the way from here to a later cursor.

        It has read what all transactions before one have written, as far as ``until`` sees it.
        """
        unread = {each for each in self.running if each >= transaction}
        open_still = {each for each in until.running if each < transaction}
        # Of the same age: what it has still to read may be as old as before.
        return EventCursor(self.at, max(self.end, transaction), frozenset(unread | open_still))

    def __str__(self) -> str:
        # Digits and dots: good in a header, in a query and in a line of server-sent events.
        return ".".join(map(str, (self.at, self.end, *sorted(self.running))))
