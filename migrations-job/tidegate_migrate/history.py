"""The table ``tidegate_schema_history``: one row per applied revision.

The row is written by the migration's own connection inside the revision's own transaction,
so schema, version table and history can only change together.
"""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tidegate.schema import HISTORY_TABLE, Applied, Revision

_table = sa.Table(
    HISTORY_TABLE,
    sa.MetaData(),
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("phase", sa.Text, nullable=False),
    # What the revision builds on: an older image walks these to find what it has never seen.
    sa.Column("down", postgresql.ARRAY(sa.Text), nullable=False),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("duration_seconds", sa.Float, nullable=False),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
)


def ensure(connection: psycopg.Connection) -> None:
    """Create the table where it is missing."""
    if not _exists(connection, HISTORY_TABLE):
        dialect: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        create = CreateTable(_table, if_not_exists=True).compile(dialect=dialect)
        connection.execute(str(create).encode())


def read(connection: psycopg.Connection) -> Applied:
    """Read A: Alembic's heads and the history's rows; absent tables hold nothing."""
    heads: list[str] = []
    rows: list[tuple[str, str, list[str]]] = []
    if _exists(connection, "alembic_version"):
        names = connection.execute("SELECT version_num FROM alembic_version")
        heads = [name for (name,) in names]
    if _exists(connection, HISTORY_TABLE):
        select = sa.select(_table.c.revision, _table.c.phase, _table.c.down)
        rows = connection.execute(str(select).encode()).fetchall()
    return Applied.of(heads, rows)


def record(
    connection: sa.Connection, revision: Revision, *, seconds: float, image: str, checksum: str
) -> None:
    """Write the row of a revision, in whatever transaction the connection is in."""
    row = {
        "revision": revision.id,
        "phase": revision.phase.value,
        "down": list(revision.down),
        "applied_at": datetime.now(UTC),
        "duration_seconds": seconds,
        "image": image,
        "checksum": checksum,
    }
    insert = postgresql.insert(_table).values(row)
    # A revision that was downgraded and comes again replaces its old row.
    connection.execute(insert.on_conflict_do_update(index_elements=["revision"], set_=row))


def _exists(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
    return bool(row and row[0])
