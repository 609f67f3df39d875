"""When a backfill pauses: the load of the server, held against limits."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

_LOAD = """
SELECT
  count(*) FILTER (WHERE state = 'active'),
  count(*) FILTER (WHERE wait_event_type = 'Lock' AND datname = current_database())
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# A standby that stopped answering keeps its last replay_lag, so the bytes are looked at too.
_LAG = """
SELECT
  coalesce(nullif(application_name, ''), 'pid ' || pid),
  coalesce(extract(epoch FROM coalesce(replay_lag, flush_lag)), 0)::float8,
  coalesce(
    pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn, sent_lsn)), 0
  )::bigint
FROM pg_stat_replication
WHERE state IN ('catchup', 'streaming')
"""
_SEES_OTHERS = """
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server may be busy with while a backfill goes on.

    ``max_active`` sessions run a statement and ``max_waiting`` wait for a lock, the backfill's
    own not counted; no standby or subscriber is more than ``max_lag`` seconds or
    ``max_lag_bytes`` bytes of WAL behind.
    """

    max_active: int = 20
    max_waiting: int = 5
    max_lag: float = 5.0
    max_lag_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Standby:
    """One receiver of the WAL and how far it is behind, in seconds and in bytes."""

    name: str
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a server is busy with: sessions that run, sessions that wait, receivers of its WAL."""

    active: int = 0
    waiting: int = 0
    standbys: tuple[Standby, ...] = ()


def reason_to_pause(load: Load, limits: Limits) -> str | None:
    """Return why a backfill has to pause, in words, or ``None``."""
    if load.active > limits.max_active:
        return f"{load.active} active sessions (at most {limits.max_active})"
    if load.waiting > limits.max_waiting:
        return f"{load.waiting} sessions wait for locks (at most {limits.max_waiting})"
    for standby in sorted(load.standbys, key=lambda one: one.bytes, reverse=True):
        if standby.seconds > limits.max_lag:
            return f"{standby.name} is {standby.seconds:.1f} s behind (at most {limits.max_lag:g})"
        if standby.bytes > limits.max_lag_bytes:
            return (
                f"{standby.name} is {_megabytes(standby.bytes)} of WAL behind "
                f"(at most {_megabytes(limits.max_lag_bytes)})"
            )
    return None


def look(connection: psycopg.Connection) -> Load:
    """Ask the server how busy it is."""
    row = connection.execute(_LOAD).fetchone()
    active, waiting = row or (0, 0)
    standbys = tuple(Standby(*one) for one in connection.execute(_LAG))
    return Load(active, waiting, standbys)


def sees_others(connection: psycopg.Connection) -> bool:
    """Tell whether the role may see what other roles' sessions and the standbys do."""
    row = connection.execute(_SEES_OTHERS).fetchone()
    return bool(row and row[0])


def _megabytes(count: int) -> str:
    return f"{count / 1024 / 1024:,.1f} MiB"
