"""The table ``tidegate_schema_history``: one row per applied revision.

The row is written by the migration's own connection inside the revision's own transaction,
so schema, version table and history can only change together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidegate.schema import BEGUN, HISTORY_TABLE, UNFINISHED_TABLE, Applied, Revision
from tidegate_migrate.place import Place, identifier, literal

if TYPE_CHECKING:
    import psycopg

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
VALUES ({revision}, {phase}, ARRAY[{down}]::text[], CASE WHEN {lock} THEN clock_timestamp() END,
  {seconds}, {image}, {checksum}, {lint_ignored})
ON CONFLICT (revision) DO UPDATE SET {updates}
"""
_UPDATES: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "revision")


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing, its schema, and what an older runner's table lacks."""
    # An env.py may make the schema of its versions in the transaction that it runs them in.
    if not _has_schema(connection, place):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(place.schema)}".encode())
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


def row(
    place: Place,
    revision: Revision,
    *,
    seconds: float,
    image: str,
    checksum: str,
    lint_ignored: str | None,
    lock: str,
) -> str:
    """Return the statement that writes the row of a revision, in whatever transaction it is run.

    ``lock`` is the SQL condition that the migration lock is still held. Where it no longer is, the
    row has no time, and the server refuses it: error 23502.
    """
    # Without parameters, over which drivers take their time, once for each revision.
    return _RECORD.format(
        table=place.history,
        columns=", ".join(_COLUMNS),
        revision=literal(revision.id),
        phase=literal(revision.phase.value),
        down=", ".join(map(literal, revision.down)),
        seconds=seconds,
        image=literal(image),
        checksum=literal(checksum),
        lint_ignored="NULL" if lint_ignored is None else literal(lint_ignored),
        lock=lock,
        updates=_UPDATES,
    )


def _tables(connection: psycopg.Connection, place: Place) -> set[str]:
    names = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = ANY (%s)",
        [place.schema, [place.version_table, *map(place.own, (HISTORY_TABLE, UNFINISHED_TABLE))]],
    )
    return {name for (name,) in names}


def _has_schema(connection: psycopg.Connection, place: Place) -> bool:
    found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [place.schema])
    return found.rowcount > 0


def _columns(connection: psycopg.Connection, place: Place) -> set[str]:
    names = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        "AND attrelid = %s::regclass",
        [place.history],
    )
    return {name for (name,) in names}
