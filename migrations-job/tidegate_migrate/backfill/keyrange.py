"""The key that a table is walked along: where a batch begins and ends, and how far that is.

Never OFFSET, which counts from the start every time: a batch is what lies behind the last key.
Key values travel as text and are cast back by PostgreSQL, so that any type with an order will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.backfill.declaration import BATCH
from tidegate_migrate.failure import MigrateError

Values = tuple[str, ...]
"""One key as text, a value for each column."""

_INTEGERS: Final = {"smallint", "integer", "bigint"}

_TABLE = "SELECT to_regclass(%s)::oid, to_regclass(%s)::text"
_PRIMARY_KEY = """
SELECT a.attname
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts
ORDER BY k.place
"""
_COLUMN = """
SELECT attnum, attname, quote_ident(attname), format_type(atttypid, atttypmod), attnotnull
FROM pg_attribute
WHERE attrelid = %s AND attname = ANY(%s) AND attnum > 0 AND NOT attisdropped
"""
_INDEX = """
SELECT EXISTS (
  SELECT FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_am m ON m.oid = c.relam
  WHERE i.indrelid = %s AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
    AND (i.indkey::int2[])[0:%s] = %s::int2[]
)
"""
_ESTIMATE = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(%s)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the key: its name as SQL writes it, and its type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Key:
    """A table, as SQL writes it, and the columns it is walked along."""

    table: str
    columns: tuple[Column, ...]

    def last_of_batch(self, *, resumed: bool) -> str:
        """Return the query for the last key of the next batch and the number of its rows.

        Takes ``rows``, and ``after_0`` … when resumed.
        """
        columns = [f"{column.name} AS k{place}" for place, column in enumerate(self.columns)]
        order = [f"k{place}" for place in range(len(columns))]
        where = f"\n  WHERE {self._beyond()}" if resumed else ""
        return (
            f"SELECT ARRAY[{', '.join(f'{one}::text' for one in order)}], count(*) OVER ()\n"  # noqa: S608 - PostgreSQL quoted them
            f"FROM (\n  SELECT {_escape(', '.join(columns))}\n  FROM {_escape(self.table)}{where}\n"
            f"  ORDER BY {', '.join(order)}\n  LIMIT %(rows)s\n) AS batch\n"
            f"ORDER BY {', '.join(f'{one} DESC' for one in order)}\nLIMIT 1"
        )

    def batch(self, statement: str, *, resumed: bool) -> str:
        """Return the statement for the rows of one batch.

        Takes ``upto_0`` …, and ``after_0`` … when resumed.
        """
        condition = f"{self._names()} <= {self._values('upto')}"
        if resumed:
            condition = f"{self._beyond()} AND {condition}"
        return _escape(statement).replace(BATCH, condition)

    def edge(self, *, last: bool) -> str:
        """Return the query for the table's first or last key."""
        names = [f"{self.table}.{column.name}" for column in self.columns]
        order = ", ".join(f"{name} DESC" if last else name for name in names)
        texts = ", ".join(f"{name}::text" for name in names)
        return f"SELECT ARRAY[{texts}] FROM {self.table} ORDER BY {order} LIMIT 1"  # noqa: S608 - as above

    def position(self, first: Values, last: Values, here: Values) -> float | None:
        """Return how far ``here`` is between the two, 0 to 1; ``None`` where that says nothing.

        It does for one column of numbers or UUIDs.
        """
        if len(self.columns) > 1:
            return None
        low, high, at = (_number(self.columns[0].type, one[0]) for one in (first, last, here))
        if low is None or high is None or at is None:
            return None
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 1.0

    def _beyond(self) -> str:
        return f"{self._names()} > {self._values('after')}"

    def _names(self) -> str:
        return _escape(f"({', '.join(f'{self.table}.{column.name}' for column in self.columns)})")

    def _values(self, prefix: str) -> str:
        values = (
            f"%({prefix}_{place})s::{_escape(column.type)}"
            for place, column in enumerate(self.columns)
        )
        return f"({', '.join(values)})"


def parameters(*, after: Values | None = None, upto: Values = ()) -> dict[str, str]:
    """Name the values of two keys as the queries of :class:`Key` do."""
    named = {f"after_{place}": value for place, value in enumerate(after or ())}
    return named | {f"upto_{place}": value for place, value in enumerate(upto)}


def find(connection: psycopg.Connection, table: str, wanted: Sequence[str]) -> Key:
    """Look up a table and the key to walk it along: ``wanted``, or else the primary key.

    Raises:
        MigrateError: ``settings``; there is no such table or column, or the key does not reach
            every row, or only by reading the whole table each time.
    """
    oid, written = connection.execute(_TABLE, [table, table]).fetchone() or (None, None)
    if oid is None:
        raise _refused(
            f"there is no table {table}", "run `tidegate migrate up` first, or correct table"
        )
    names = list(wanted) or [name for (name,) in connection.execute(_PRIMARY_KEY, [oid])]
    if not names:
        raise _refused(
            f"the table {table} has no primary key",
            'name columns that are NOT NULL and indexed: key = ["…"]',
        )
    found = {row[1]: row for row in connection.execute(_COLUMN, [oid, names])}
    for name in names:
        if name not in found:
            raise _refused(f"the table {table} has no column {name}", "correct key")
        if not found[name][4]:
            raise _refused(
                f"the column {name} of {table} may be NULL, and such rows would be passed over",
                "name a key that is NOT NULL, or leave it out: the primary key is taken then",
            )
    numbers = [found[name][0] for name in names]
    row = connection.execute(_INDEX, [oid, len(names) - 1, numbers]).fetchone()
    if not (row and row[0]):
        raise _refused(
            f"no index of {table} begins with {', '.join(names)}, so that every batch would read "
            "the whole table",
            "build one (CREATE INDEX CONCURRENTLY), or leave key out: the primary key is taken",
        )
    return Key(str(written), tuple(Column(found[name][2], found[name][3]) for name in names))


def ends(connection: psycopg.Connection, key: Key) -> tuple[Values, Values] | None:
    """Return the table's first and last key; ``None`` when it is empty."""
    first = connection.execute(key.edge(last=False).encode()).fetchone()
    last = connection.execute(key.edge(last=True).encode()).fetchone()
    return (tuple(first[0]), tuple(last[0])) if first and last else None


def estimated_rows(connection: psycopg.Connection, key: Key) -> int:
    """Return how many rows the table has by its statistics; 0 where there are none yet."""
    row = connection.execute(_ESTIMATE, [key.table]).fetchone()
    return row[0] if row else 0


def _refused(message: str, hint: str) -> MigrateError:
    return MigrateError(Failure.SETTINGS, message, hint=hint)


def _escape(sql: str) -> str:
    """Keep psycopg from taking a per cent sign for a parameter."""
    return sql.replace("%", "%%")


def _number(type_name: str, text: str) -> int | None:
    if type_name in _INTEGERS:
        return int(text)
    return UUID(text).int if type_name == "uuid" else None
