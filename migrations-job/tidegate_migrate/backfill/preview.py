"""What a backfill would do, without doing it: its statements, and what PostgreSQL makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from tidegate_migrate import database
from tidegate_migrate.backfill import keyrange, table
from tidegate_migrate.backfill.declaration import Declaration
from tidegate_migrate.backfill.keyrange import parameters
from tidegate_migrate.backfill.screen import Screen
from tidegate_migrate.backfill.session import connect
from tidegate_migrate.settings import Settings

_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Preview:
    """The two statements of a batch, and the plan of the second for the next thousand rows.

    ``table_rows`` is the statistics' number of rows, 0 where there is none yet; ``plan`` is empty
    when no row is left.
    """

    name: str
    table: str
    table_rows: int
    statements: tuple[str, ...]
    plan: str


def preview(settings: Settings, declaration: Declaration, screen: Screen) -> Preview:
    """Ask for the plan in a transaction that may only read.

    Raises:
        MigrateError: ``settings``; the table, the key or the statement is not right.
    """
    with connect(settings, declaration.name, screen) as connection, database.errors_in_words():
        connection.read_only = True
        key = keyrange.find(connection, declaration.table, declaration.key)
        entry = table.read(connection, declaration.name)
        after = entry.last_key if entry else None
        resumed = after is not None
        find = key.last_of_batch(resumed=resumed)
        change = key.batch(declaration.sql(key.table), resumed=resumed)
        row = connection.execute(
            find.encode(), {**parameters(after=after), "rows": _ROWS}
        ).fetchone()
        return Preview(
            declaration.name,
            key.table,
            keyrange.estimated_rows(connection, key),
            (_readable(find), _readable(change)),
            _plan(connection, change, parameters(after=after, upto=tuple(row[0]))) if row else "",
        )


def _plan(connection: psycopg.Connection, statement: str, values: dict[str, str]) -> str:
    lines = connection.execute(f"EXPLAIN {statement}".encode(), values).fetchall()
    return "\n".join(text for (text,) in lines)


def _readable(template: str) -> str:
    """Write psycopg's parameters as psql does."""
    return re.sub(r"%\((\w+)\)s", r":\1", template).replace("%%", "%")
