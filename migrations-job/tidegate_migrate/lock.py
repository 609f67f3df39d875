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

MIGRATING: Final = "tidegate migration"
"""How the application_name of a connection begins that runs revisions."""

# Whoever holds the lock holds another beside it, in its backend's own name. That one cannot be had
# for as long as the backend lives, and to try is far quicker than to look through pg_locks.
_NAMED: Final = int.from_bytes(b"tide")
_TAKE: Final = f"""
SELECT CASE WHEN pg_try_advisory_lock(%s)
THEN pg_try_advisory_lock({_NAMED}, pg_backend_pid()) ELSE false END
"""
_RELEASE: Final = f"SELECT pg_advisory_unlock(%s), pg_advisory_unlock({_NAMED}, pg_backend_pid())"
_HELD: Final = f"NOT pg_try_advisory_xact_lock_shared({_NAMED}, {{backend}})"

_ORPHAN = """
SELECT pid, application_name, extract(epoch FROM clock_timestamp() - query_start)
FROM pg_stat_activity
WHERE application_name LIKE %s AND datname = current_database()
"""


def held_by(backend: int) -> str:
    """Return the SQL condition that a backend of this same database holds its lock still."""
    return _HELD.format(backend=backend)


@contextmanager
def migration_lock(
    connection: psycopg.Connection,
    *,
    timeout: float,
    say: Callable[[str], None],
    key: int = LOCK_KEY,
    work: str = "migration",
) -> Iterator[None]:
    """Hold the lock, waiting up to ``timeout`` seconds for another runner to end.

    Raises:
        MigrateError: ``lock-timeout``; the message says who holds it.
    """
    deadline = time.monotonic() + timeout
    told = False
    while not _try(connection, key):
        holder = _describe_holder(connection, key)
        if time.monotonic() >= deadline:
            raise MigrateError(
                Failure.LOCK_TIMEOUT,
                f"another {work} still holds the lock after {timeout:g} s: {holder}",
                hint="wait for it to end, or end that backend, then run this again",
            )
        if not told:
            say(f"waiting up to {timeout:g} s for the {work} lock, held by {holder}")
            told = True
        time.sleep(random.uniform(0.2, 0.5))  # noqa: S311 - spreads runners, guards nothing
    try:
        yield
    finally:
        # A connection that broke has released it already, and must not hide what went wrong.
        with suppress(psycopg.OperationalError):
            connection.execute(_RELEASE, [key])


def await_orphans(
    connection: psycopg.Connection, *, timeout: float, say: Callable[[str], None]
) -> None:
    """Wait for what other runners have left behind: a backend of theirs that still migrates.

    A killed one's ends with its statement. One that has lost its lock only may be between two
    statements. The lock went with their own connections; whoever holds it now is alone but for
    those.

    Raises:
        MigrateError: ``lock-timeout``; the message says which backend.
    """
    deadline = time.monotonic() + timeout
    told = False
    while orphan := connection.execute(_ORPHAN, [f"{MIGRATING}%"]).fetchone():
        backend, name, seconds = orphan
        orphaned = f"{name} (backend {backend}{_for(seconds)})"
        if time.monotonic() >= deadline:
            raise MigrateError(
                Failure.LOCK_TIMEOUT,
                f"another runner's migration still runs after {timeout:g} s, though its lock is "
                f"gone: {orphaned}",
                hint=f"end it: SELECT pg_terminate_backend({backend}); then run this again",
            )
        if not told:
            say(f"waiting up to {timeout:g} s for what another runner has left: {orphaned}")
            told = True
        time.sleep(0.1)


def lost(revision: str) -> MigrateError:
    """What is to be said of a revision that was running when the lock was gone."""
    return MigrateError(
        Failure.UNREACHABLE,
        "the connection that holds the migration lock broke, so another runner may be at work; "
        f"revision {revision} was stopped",
        hint="run this again",
        revision=revision,
    )


def _try(connection: psycopg.Connection, key: int) -> bool:
    row = connection.execute(_TAKE, [key]).fetchone()
    return bool(row and row[0])


def _describe_holder(connection: psycopg.Connection, key: int) -> str:
    row = connection.execute(_HOLDER, [key]).fetchone()
    if row is None:
        return "a runner that has just ended"
    pid, name, address, seconds = row
    # What the server tells of another role's backend only to pg_read_all_stats.
    seen = "" if seconds is None else f", {address or 'local'}{_for(seconds)}"
    return f"{name or 'unnamed'} (backend {pid}{seen})"


def _for(seconds: float | None) -> str:
    """Say how long; of another role's backend the server tells it only to pg_read_all_stats."""
    return "" if seconds is None else f", for {seconds:.0f} s"
