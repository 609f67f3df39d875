"""The table ``tidegate_backfills``: how far each backfill is.

Its row changes in the transaction of the batch it tells about, so that a run which is killed
at any moment has done exactly what the row says.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.backfill.keyrange import Values
from tidegate_migrate.failure import MigrateError

BACKFILLS_TABLE: Final = "tidegate_backfills"

_CREATE = """
CREATE TABLE IF NOT EXISTS tidegate_backfills (
  name text PRIMARY KEY,
  checksum text NOT NULL,
  last_key text[],
  rows_seen bigint NOT NULL DEFAULT 0,
  rows_changed bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
)
"""
_READ = """
SELECT checksum, last_key, rows_seen, rows_changed, updated_at, finished_at
FROM tidegate_backfills WHERE name = %s
"""
_BEGIN = """
INSERT INTO tidegate_backfills (name, checksum) VALUES (%(name)s, %(checksum)s)
ON CONFLICT (name) DO UPDATE SET
  checksum = excluded.checksum, last_key = NULL, rows_seen = 0, rows_changed = 0,
  started_at = now(), updated_at = now(), finished_at = NULL
"""
_ADVANCE = """
UPDATE tidegate_backfills SET
  last_key = coalesce(%(key)s::text[], last_key), rows_seen = rows_seen + %(seen)s,
  rows_changed = rows_changed + %(changed)s, updated_at = now(),
  finished_at = CASE WHEN %(finished)s THEN now() END
WHERE name = %(name)s
RETURNING checksum, last_key, rows_seen, rows_changed, updated_at, finished_at
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """How far a backfill is: the last key it has done, the rows it walked over and changed."""

    checksum: str
    last_key: Values | None = None
    rows_seen: int = 0
    rows_changed: int = 0
    updated_at: datetime | None = None
    finished_at: datetime | None = None


def exists(connection: psycopg.Connection) -> bool:
    """Tell whether any backfill was ever begun here."""
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [BACKFILLS_TABLE]).fetchone()
    return bool(row and row[0])


def read(connection: psycopg.Connection, name: str) -> Entry | None:
    """Read a backfill's row; ``None`` when it was never begun."""
    if not exists(connection):
        return None
    row = connection.execute(_READ, [name]).fetchone()
    return _entry(row) if row else None


def begin(connection: psycopg.Connection, name: str, checksum: str) -> Entry:
    """Write the row of a backfill that begins, or begins again."""
    if not exists(connection):
        with suppress(psycopg.errors.UniqueViolation):  # another's first run, at the same moment
            connection.execute(_CREATE)
    connection.execute(_BEGIN, {"name": name, "checksum": checksum})
    return Entry(checksum)


def advance(
    connection: psycopg.Connection,
    name: str,
    *,
    key: Values | None,
    seen: int,
    changed: int,
    finished: bool,
) -> Entry:
    """Tell of one more batch, in the batch's transaction; return how far it is then.

    Raises:
        MigrateError: ``incompatible``; somebody took the row away.
    """
    values = {"key": list(key) if key else None, "seen": seen, "changed": changed}
    row = connection.execute(_ADVANCE, {"name": name, "finished": finished, **values}).fetchone()
    if row is None:
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"the row of {name} in {BACKFILLS_TABLE} is gone, so nothing knows how far it is",
            hint="run it again: it begins anew",
        )
    return _entry(row)


def _entry(row: tuple[Any, ...]) -> Entry:
    checksum, last_key, *rest = row
    return Entry(checksum, tuple(last_key) if last_key else None, *rest)
