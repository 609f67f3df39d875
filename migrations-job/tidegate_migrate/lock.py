"""One runner at a time: a PostgreSQL advisory lock, polled.

Polled, because a *blocking* ``pg_advisory_lock`` holds a snapshot while it waits, and
``CREATE INDEX CONCURRENTLY`` of the holder waits for that snapshot: a deadlock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.failure import MigrateError

LOCK_KEY: Final = int.from_bytes(b"tidegate", "big")
"""The advisory lock's key: one lock for each database."""

_HOLDER = """
SELECT a.pid, a.application_name, host(a.client_addr), extract(epoch FROM now() - a.backend_start)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted
  AND (l.classid::bigint << 32) | l.objid::bigint = %s
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def migration_lock(
    connection: psycopg.Connection, *, timeout: float, say: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock, waiting up to ``timeout`` seconds for another runner to end.

    Raises:
        MigrateError: ``lock-timeout``; the message says who holds it.
    """
    deadline = time.monotonic() + timeout
    told = False
    while not _try(connection):
        holder = _describe_holder(connection)
        if time.monotonic() >= deadline:
            raise MigrateError(
                Failure.LOCK_TIMEOUT,
                f"another migration still holds the lock after {timeout:g} s: {holder}",
                hint="wait for it to end, or end that backend, then run this again",
            )
        if not told:
            say(f"waiting up to {timeout:g} s for the migration lock, held by {holder}")
            told = True
        time.sleep(random.uniform(0.2, 0.5))  # noqa: S311 - spreads runners, guards nothing
    try:
        yield
    finally:
        # A connection that broke has released it already, and must not hide what went wrong.
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])


def _try(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
    return bool(row and row[0])


def _describe_holder(connection: psycopg.Connection) -> str:
    row = connection.execute(_HOLDER, [LOCK_KEY]).fetchone()
    if row is None:
        return "a runner that has just ended"
    pid, name, address, seconds = row
    return f"{name or 'unnamed'} (backend {pid}, {address or 'local'}, for {seconds:.0f} s)"
