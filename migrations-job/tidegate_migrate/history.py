"""The table ``tidegate_schema_history``: one row per applied revision.

The row is written by the migration's own connection inside the revision's own transaction,
so schema, version table and history can only change together.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from tidegate.schema import BEGUN, HISTORY_TABLE, UNFINISHED_TABLE, Applied, Revision
from tidegate_migrate.place import Place

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

_COLUMNS: Final = {
    "revision": "text PRIMARY KEY",
    "phase": "text NOT NULL",
    # What the revision builds on: an older image walks these to find what it has never seen.
    "down": "text[] NOT NULL",
    "applied_at": "timestamptz NOT NULL",
    "duration_seconds": "double precision NOT NULL",
    "image": "text NOT NULL",
    "checksum": "text NOT NULL",
    # JSON: the lint rules that the revision's file switches off, each with its reason.
    "lint_ignored": "text",
}

_HEADS: Final = "SELECT version_num FROM {table}"
_ROWS: Final = "SELECT revision, phase, down FROM {table}"
# The database's clock: two runners' may differ. A revision that was downgraded and comes again
# replaces its old row.
_RECORD: Final = """
INSERT INTO {table} ({columns})
SELECT CAST(:revision AS text), CAST(:phase AS text), CAST(:down AS text[]), clock_timestamp(),
  CAST(:seconds AS double precision), CAST(:image AS text), CAST(:checksum AS text),
  CAST(:lint_ignored AS text)
WHERE {lock}
ON CONFLICT (revision) DO UPDATE SET {updates}
"""


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing, and what an older runner's table lacks."""
    if place.own(HISTORY_TABLE) not in _tables(connection, place):
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {place.history} ({columns})".encode())
    elif "lint_ignored" not in _columns(connection, place):
        connection.execute(f"ALTER TABLE {place.history} ADD COLUMN lint_ignored text".encode())


def read(connection: psycopg.Connection, place: Place) -> Applied:
    """Read A: Alembic's heads, the history's rows, what is begun; absent tables hold nothing."""
    heads: list[str] = []
    rows: list[tuple[str, str, list[str]]] = []
    begun: list[tuple[str, str, list[str]]] = []
    tables = _tables(connection, place)
    if place.version_table in tables:
        names = connection.execute(_HEADS.format(table=place.versions).encode())
        heads = [name for (name,) in names]
    if place.own(HISTORY_TABLE) in tables:
        rows = connection.execute(_ROWS.format(table=place.history).encode()).fetchall()
    if place.own(UNFINISHED_TABLE) in tables:
        unfinished = place.beside(UNFINISHED_TABLE)
        begun = connection.execute(BEGUN.format(unfinished).encode()).fetchall()
    return Applied.of(heads, rows, begun)


def record(
    connection: sa.Connection,
    place: Place,
    revision: Revision,
    *,
    seconds: float,
    image: str,
    checksum: str,
    lint_ignored: str | None,
    lock: str,
) -> bool:
    """Write the row of a revision, in whatever transaction the connection is in.

    ``lock`` is the SQL condition that the migration lock is still held. Returns False, having
    written nothing, where it no longer is.
    """
    row = {
        "revision": revision.id,
        "phase": revision.phase.value,
        "down": list(revision.down),
        "seconds": seconds,
        "image": image,
        "checksum": checksum,
        "lint_ignored": lint_ignored,
    }
    return bool(connection.execute(_insert(place, lock), row).rowcount)


@cache
def _insert(place: Place, lock: str) -> sa.TextClause:
    import sqlalchemy as sa

    updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "revision")
    columns = ", ".join(_COLUMNS)
    return sa.text(_RECORD.format(table=place.history, columns=columns, lock=lock, updates=updates))


def _tables(connection: psycopg.Connection, place: Place) -> set[str]:
    names = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = ANY (%s)",
        [place.schema, [place.version_table, *map(place.own, (HISTORY_TABLE, UNFINISHED_TABLE))]],
    )
    return {name for (name,) in names}


def _columns(connection: psycopg.Connection, place: Place) -> set[str]:
    names = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        "AND attrelid = %s::regclass",
        [place.history],
    )
    return {name for (name,) in names}
