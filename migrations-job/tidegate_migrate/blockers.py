"""Watches, from beside, whose locks the migrating connection waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from tidegate_migrate.held import HeldLocks
from tidegate_migrate.patience import Patience
from tidegate_migrate.progress import Progress

_EVERY: Final = 0.04  # seconds: less than half of the shortest time that a try queues
# Names and times only: a statement's text may hold anybody's data. Of another role's backends the
# server tells no more than the name and the locks, unless the own one has pg_read_all_stats.
# Autovacuum yields to whoever queues for long enough; unseen, it is known by its lock.
_BLOCKERS: Final = """
SELECT b.pid, coalesce(nullif(a.application_name, ''), a.usename, a.backend_type, 'unknown'),
       a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start)),
       CASE WHEN coalesce(a.backend_type <> 'autovacuum worker', NOT EXISTS (
         SELECT FROM pg_locks v WHERE v.pid = b.pid AND v.mode = 'ShareUpdateExclusiveLock'
       )) THEN t.virtualxid END
FROM unnest(pg_blocking_pids(%s)) AS b (pid)
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN pg_locks t ON t.pid = b.pid AND t.locktype = 'virtualxid' AND t.mode = 'ExclusiveLock'
ORDER BY 4 DESC NULLS LAST
"""
_LOOK_EVERY: Final = 0.2  # seconds, for the end of those who stood in the way
_STILL: Final = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND virtualxid = ANY (%s)
"""


class Blockers:
    """Who stands in the way of one backend. ``last`` says who did last, "" when nobody has.

    ``since`` is when the backend began with what it does now, by ``time.monotonic()``; ``held`` are
    the locks that it has itself.
    """

    def __init__(
        self, connection: psycopg.Connection, say: Callable[[str], None], progress: Progress
    ) -> None:
        self._connection = connection
        self._say = say
        self._progress = progress
        self.held = HeldLocks(connection, progress)
        self._told = ""
        self._transactions: set[str] = set()
        self.backend = 0
        self.since = 0.0
        self.last = ""
        self._resting_from = ""

    def look(self) -> None:
        """Ask once, and say who it is when that has changed."""
        rows = self._connection.execute(_BLOCKERS, [self.backend]).fetchall()
        if not rows:
            self._progress.waiting = self._resting_from
            return
        self.last = self._progress.waiting = "; ".join(describe(*row[:4]) for row in rows[:3])
        self._transactions = {row[4] for row in rows if row[4]}
        who = ",".join(str(row[0]) for row in rows)
        if who != self._told:
            self._say(f"waiting for a lock held by {self.last}")
            self._told = who

    def again(self, patience: Patience, what: str) -> bool:
        """Wait for another try, outside of the queue; False when there is no time for one.

        It begins as soon as the transactions have ended that stood in the way.
        """
        standing = self._transactions
        self._transactions = set()
        pause = patience.pause(known=bool(standing))
        if pause is None:
            return False
        self._say(f"{what} did not get its locks and was taken back; again within {pause:.1f} s")
        over = time.monotonic() + pause
        self._resting_from = self._progress.waiting = self.last
        while (left := over - time.monotonic()) > 0:
            if standing and not self._stand(standing):
                break
            time.sleep(min(left, _LOOK_EVERY))
        self._resting_from = ""
        if not self._stand(standing):
            patience.harder()
        return True

    def _stand(self, transactions: set[str]) -> bool:
        row = self._connection.execute(_STILL, [list(transactions)]).fetchone()
        return bool(row and row[0])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask from a thread of its own for as long as the block runs."""
        over = threading.Event()

        def watch() -> None:
            try:
                while not over.wait(_EVERY):
                    # Revisions that are quick are not worth a question.
                    if self.backend and time.monotonic() - self.since > _EVERY:
                        self.look()
                        self.held.look(self.backend)
            except psycopg.Error:
                return  # the connection broke: the run finds that out by itself

        thread = threading.Thread(target=watch, name="tidegate-blockers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(1)


def describe(backend: int, name: str, state: str | None, seconds: float | None) -> str:
    """Name one backend that holds a lock, and for how long its transaction has run, where known.

    Backend 0 is PostgreSQL's word for a transaction that was prepared, and belongs to none.
    """
    if not backend:
        return "a prepared transaction (pg_prepared_xacts)"
    since = None if seconds is None else f"for {seconds:.0f} s"
    return f"{name} ({', '.join(filter(None, [f'backend {backend}', state, since]))})"
