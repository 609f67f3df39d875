"""How far a revision has come that commits before it is done: the table ``tidegate_unfinished``.

An ``autocommit_block`` commits what was before it, and each statement in it stands alone. What
they have done outlives a killed run, while the version and the history still say "not applied".
A row here, written before and after each such statement, lets the next run go on behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidegate_migrate.place import Place

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

TABLE: Final = "tidegate_unfinished"

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS {table} (
  revision text PRIMARY KEY,
  done integer NOT NULL,
  digest text NOT NULL,
  begun text NOT NULL,
  at timestamptz NOT NULL
)
"""
_READ: Final = "SELECT revision, done, digest, begun FROM {table}"
_WRITE: Final = """
INSERT INTO {table} (revision, done, digest, begun, at)
SELECT CAST(:revision AS text), CAST(:done AS integer), CAST(:digest AS text),
  CAST(:begun AS text), clock_timestamp()
ON CONFLICT (revision) DO UPDATE
SET done = excluded.done, digest = excluded.digest, begun = excluded.begun, at = excluded.at
"""
_FORGET: Final = "DELETE FROM {table} WHERE revision = CAST(:revision AS text)"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The statements of a revision that are committed: how many, and the digest of their text.

    ``begun`` is the digest with the statement that was running, "" when none was: it may have
    been committed or not.
    """

    done: int = 0
    digest: str = ""
    begun: str = ""


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing."""
    connection.execute(_CREATE.format(table=place.beside(TABLE)).encode())


def read(connection: psycopg.Connection, place: Place) -> dict[str, Unfinished]:
    """Return the revisions that earlier runs have begun and not finished."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = %s AND tablename = %s)",
        [place.schema, TABLE],
    ).fetchone()
    if row is None or not row[0]:
        return {}
    rows = connection.execute(_READ.format(table=place.beside(TABLE)).encode())
    return {name: Unfinished(done, digest, begun) for name, done, digest, begun in rows}


def write(connection: sa.Connection, place: Place, revision: str, entry: Unfinished) -> None:
    """Write how far the revision has come, over the connection that migrates."""
    import sqlalchemy as sa

    connection.execute(
        sa.text(_WRITE.format(table=place.beside(TABLE))),
        {
            "revision": revision,
            "done": entry.done,
            "digest": entry.digest,
            "begun": entry.begun,
        },
    )


def forget(connection: sa.Connection, place: Place, revision: str) -> None:
    """Take the row away: in the transaction that writes the version and the history."""
    import sqlalchemy as sa

    connection.execute(sa.text(_FORGET.format(table=place.beside(TABLE))), {"revision": revision})
