"""Watches, from beside, which tables the migrating connection keeps others from, and how long."""

from __future__ import annotations

import threading
import time
from typing import Final

import psycopg

from tidegate_migrate.progress import Progress

_EVERY: Final = 0.2  # seconds: what is held for less is not worth a word
# A table that the revision makes itself is not seen from here yet: nobody else waits for it.
# Those below 16384 are the server's own.
_HELD: Final = """
SELECT c.oid::regclass::text, max(array_position(%s::text[], l.mode))
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = %s AND l.granted AND l.mode = ANY (%s) AND c.oid >= 16384
  AND c.relkind IN ('r', 'p', 'm')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1 ORDER BY 1
"""
# What writes wait for, and last what everybody waits for; the weakest first.
_NAMES: Final = {
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}


class HeldLocks:
    """The locks of one backend that keep writes, or all queries, waiting."""

    def __init__(self, connection: psycopg.Connection, progress: Progress) -> None:
        self._connection = connection
        self._progress = progress
        self._asking = threading.Lock()
        self._next = 0.0

    def look(self, backend: int) -> None:
        """Ask what the backend holds now, a few times a second at most."""
        if time.monotonic() < self._next:
            return
        with self._asking:
            modes = list(_NAMES)
            held = self._connection.execute(_HELD, [modes, backend, modes]).fetchall()
            now = time.monotonic()
            known = self._progress.locked
            self._progress.locked = {
                table: (_NAMES[modes[place - 1]], known[table][1] if table in known else now)
                for table, place in held
            }
        self._next = now + _EVERY

    def let_go(self) -> str:
        """Say what was held up to now, when a transaction has ended; "" when nothing was seen."""
        with self._asking:
            locked, self._progress.locked = self._progress.locked, {}
        now = time.monotonic()
        told = [
            f"{table} ({mode}) for {now - since:.1f} s" for table, (mode, since) in locked.items()
        ]
        return f", locked {', '.join(told)}" if told else ""
