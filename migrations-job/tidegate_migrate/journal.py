"""How far a revision has come that commits before it is done: the table ``tidegate_unfinished``.

An ``autocommit_block`` commits what was before it, and each statement in it stands alone. What
they have done outlives a killed run, while the version and the history still say "not applied".
A row here, written before and after each such statement, lets the next run go on behind it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidegate.schema import UNFINISHED_TABLE, Revision
from tidegate_migrate.place import Place, literal

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

# Every role may read it: the service's library has to know which contract revision is half done,
# and there is nothing else in it.
_CREATE: Final = """
CREATE TABLE {table} (
  revision text PRIMARY KEY,
  phase text NOT NULL,
  down text[] NOT NULL,
  version text NOT NULL,
  checksum text NOT NULL,
  part integer NOT NULL,
  done integer NOT NULL,
  before text NOT NULL,
  alone text[] NOT NULL,
  begun text NOT NULL,
  at timestamptz NOT NULL
);
GRANT SELECT ON {table} TO PUBLIC
"""
# The version rows that a revision builds on, and the transactions that wrote them: whoever finishes
# it by hand and takes it back later writes them anew.
_VERSION: Final = """(
  SELECT coalesce(string_agg(concat(version_num, ' ', xmin), ',' ORDER BY version_num), '')
  FROM {versions} WHERE version_num = ANY ({down})
)"""
_READ: Final = """
SELECT revision, checksum, part, done, before, alone, begun, version <> {version}
FROM {table} AS u
"""
_WRITE: Final = """
INSERT INTO {table}
  (revision, phase, down, version, checksum, part, done, before, alone, begun, at)
SELECT CAST(:revision AS text), CAST(:phase AS text), CAST(:down AS text[]), {version},
  CAST(:checksum AS text), CAST(:part AS integer), CAST(:done AS integer),
  CAST(:before AS text), CAST(:alone AS text[]), CAST(:begun AS text), clock_timestamp()
WHERE {lock}
ON CONFLICT (revision) DO UPDATE
SET phase = excluded.phase, down = excluded.down, version = excluded.version,
  checksum = excluded.checksum, part = excluded.part, done = excluded.done,
  before = excluded.before, alone = excluded.alone, begun = excluded.begun, at = excluded.at
"""
_FORGET_ALL: Final = "DELETE FROM {table} WHERE revision IN ({revisions})"
_FORGET: Final = "DELETE FROM {table} WHERE revision = CAST(:revision AS text)"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How far a revision has come, whose file had this checksum.

    Its parts are what stands before the first autocommit block (0), in it (1), up to the next one
    (2), and so on. Those before ``part`` are committed as a whole; ``before`` is the digest of
    their statements' text. In ``part`` itself, a block, those with the digests ``alone`` are
    committed. ``begun`` is the digest of the statement that was running, "" when none was: it may
    have been committed or not. ``done`` counts what is committed.
    ``stale`` tells that the version table was written since.
    """

    checksum: str = ""
    part: int = 0
    done: int = 0
    before: str = ""
    alone: tuple[str, ...] = ()
    begun: str = ""
    stale: bool = False


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing."""
    if not _exists(connection, place, place.own(UNFINISHED_TABLE)):
        connection.execute(_CREATE.format(table=place.beside(UNFINISHED_TABLE)).encode())


def read(connection: psycopg.Connection, place: Place) -> dict[str, Unfinished]:
    """Return the revisions that earlier runs have begun and not finished."""
    if not _exists(connection, place, place.own(UNFINISHED_TABLE)):
        return {}
    version = "''"
    if _exists(connection, place, place.version_table):
        version = _VERSION.format(versions=place.versions, down="u.down")
    query = _READ.format(table=place.beside(UNFINISHED_TABLE), version=version)
    return {
        name: Unfinished(checksum, part, done, before, tuple(alone), begun, stale)
        for name, checksum, part, done, before, alone, begun, stale in connection.execute(
            query.encode()
        )
    }


def write(
    connection: sa.Connection, place: Place, revision: Revision, entry: Unfinished, *, lock: str
) -> bool:
    """Write how far the revision has come, over the connection that migrates.

    ``lock`` is the SQL condition that the migration lock is still held. Returns False, having
    written nothing, where it no longer is.
    """
    import sqlalchemy as sa

    version = _VERSION.format(versions=place.versions, down="CAST(:down AS text[])")
    table = place.beside(UNFINISHED_TABLE)
    written = connection.execute(
        sa.text(_WRITE.format(table=table, version=version, lock=lock)),
        {
            "revision": revision.id,
            "phase": revision.phase.value,
            "down": list(revision.down),
            "checksum": entry.checksum,
            "part": entry.part,
            "done": entry.done,
            "before": entry.before,
            "alone": list(entry.alone),
            "begun": entry.begun,
        },
    )
    return bool(written.rowcount)


def forget(connection: sa.Connection, place: Place, revision: str) -> None:
    """Take the row away: in the transaction that writes the version and the history."""
    import sqlalchemy as sa

    forget = sa.text(_FORGET.format(table=place.beside(UNFINISHED_TABLE)))
    connection.execute(forget, {"revision": revision})


def forget_all(connection: psycopg.Connection, place: Place, revisions: Collection[str]) -> None:
    """Take the rows of revisions away that somebody else has finished."""
    table = place.beside(UNFINISHED_TABLE)
    names = ", ".join(map(literal, revisions))
    connection.execute(_FORGET_ALL.format(table=table, revisions=names).encode())


def _exists(connection: psycopg.Connection, place: Place, table: str) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = %s AND tablename = %s)",
        [place.schema, table],
    ).fetchone()
    return bool(row and row[0])
