"""One batch: the rows behind the last key and the note of them, in one short transaction."""

from __future__ import annotations

import psycopg

from tidegate_migrate.backfill import table
from tidegate_migrate.backfill.declaration import Declaration
from tidegate_migrate.backfill.keyrange import Key, Values, parameters


def change(
    connection: psycopg.Connection,
    declaration: Declaration,
    key: Key,
    *,
    after: Values | None,
    rows: int,
) -> table.Entry:
    """Walk over up to ``rows`` rows and change those that the declaration means.

    A batch that is not full has met the end of the key, and finishes the backfill.
    """
    resumed = after is not None
    with connection.transaction():
        find = key.last_of_batch(resumed=resumed).encode()
        found = connection.execute(find, {**parameters(after=after), "rows": rows}).fetchone()
        if found is None:
            return table.advance(
                connection, declaration.name, key=None, seen=0, changed=0, finished=True
            )
        upto, seen = tuple(found[0]), found[1]
        statement = key.batch(declaration.sql(key.table), resumed=resumed).encode()
        cursor = connection.execute(statement, dict(parameters(after=after, upto=upto)))
        return table.advance(
            connection,
            declaration.name,
            key=upto,
            seen=seen,
            changed=max(0, cursor.rowcount),
            finished=seen < rows,
        )
