"""How far a revision has come that commits before it is done: the table ``tidegate_unfinished``.

An ``autocommit_block`` commits what was before it, and each statement in it stands alone. What
they have done outlives a killed run, while the version and the history still say "not applied".
A row here, written before and after each such statement, lets the next run go on behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidegate.schema import UNFINISHED_TABLE, Applied, Manifest, Revision
from tidegate_migrate.place import Place, literal
from tidegate_migrate.rollback import done
from tidegate_migrate.session import verbatim

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
  ended text NOT NULL,
  counts text NOT NULL,
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
SELECT revision, checksum, part, done, before, alone, begun, {later}, version <> {version}
FROM {table} AS u
"""
# The table of an earlier runner has no such columns yet when it is read.
_LATER: Final = ("ended", "counts")
_READ_LATER: Final = ", ".join(f"coalesce(to_jsonb(u) ->> '{name}', '')" for name in _LATER)
_LACKS: Final = """
SELECT name FROM unnest(%s::text[]) AS later (name) WHERE NOT EXISTS (
  SELECT FROM pg_attribute WHERE attrelid = {table}::regclass AND attname = name
)
"""
_ADD: Final = "ALTER TABLE {table} ADD COLUMN {name} text NOT NULL DEFAULT ''"
_WRITE: Final = """
INSERT INTO {table}
  (revision, phase, down, version, checksum, part, done, before, alone, begun, ended, counts, at)
SELECT {revision}, {phase}, {down}, {version}, {checksum}, {part}, {done},
  {before}, {alone}, {begun}, {ended}, {counts}, clock_timestamp()
WHERE {lock}
ON CONFLICT (revision) DO UPDATE
SET phase = excluded.phase, down = excluded.down, version = excluded.version,
  checksum = excluded.checksum, part = excluded.part, done = excluded.done,
  before = excluded.before, alone = excluded.alone, begun = excluded.begun,
  ended = excluded.ended, counts = excluded.counts, at = excluded.at
"""
_STILL_HOLD: Final = "UPDATE {table} AS u SET version = {version} WHERE revision IN ({revisions})"
_FORGET: Final = "DELETE FROM {table} WHERE revision IN ({revisions})"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How far a revision has come, whose file had this checksum.

    Its parts are what stands before the first autocommit block (0), in it (1), up to the next one
    (2), and so on. Those before ``part`` are committed as a whole; ``before`` is the digest of
    their statements' text, and ``ended`` the digests of each block among them. In ``part`` itself,
    a block, those with the digests ``alone`` are committed. ``begun`` are the digests of those that
    were running when a run ended: they may have been committed or not. ``done`` counts what is
    committed. ``counts`` is what :class:`tidegate_migrate.row_counts.RowCounts` has written.
    ``stale`` tells that the version table was written since.
    """

    checksum: str = ""
    part: int = 0
    done: int = 0
    before: str = ""
    alone: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    ended: tuple[tuple[str, ...], ...] = ()
    counts: str = ""
    stale: bool = False


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing, and what an earlier runner's table lacks."""
    table = place.beside(UNFINISHED_TABLE)
    if not _exists(connection, place, place.own(UNFINISHED_TABLE)):
        connection.execute(_CREATE.format(table=table).encode())
        return
    lacks = _LACKS.format(table=literal(table).replace("%", "%%"))
    for (name,) in connection.execute(lacks.encode(), [list(_LATER)]).fetchall():
        connection.execute(_ADD.format(table=table, name=name).encode())


def read(connection: psycopg.Connection, place: Place) -> dict[str, Unfinished]:
    """Return the revisions that earlier runs have begun and not finished."""
    if not _exists(connection, place, place.own(UNFINISHED_TABLE)):
        return {}
    version = "''"
    if _exists(connection, place, place.version_table):
        version = _VERSION.format(versions=place.versions, down="u.down")
    query = _READ.format(table=place.beside(UNFINISHED_TABLE), version=version, later=_READ_LATER)
    found = connection.execute(query.encode())
    return {
        name: Unfinished(
            checksum,
            part,
            done,
            before,
            tuple(alone),
            tuple(begun.split()),
            tuple(tuple(line.split()) for line in ended.split("\n")),
            counts,
            stale,
        )
        for name, checksum, part, done, before, alone, begun, ended, counts, stale in found
    }


def write(
    connection: sa.Connection, place: Place, revision: Revision, entry: Unfinished, *, lock: str
) -> bool:
    """Write how far the revision has come, over the connection that migrates.

    ``lock`` is the SQL condition that the migration lock is still held. Returns False, having
    written nothing, where it no longer is.
    """
    down = _array(revision.down)
    row = _WRITE.format(
        table=place.beside(UNFINISHED_TABLE),
        revision=literal(revision.id),
        phase=literal(revision.phase.value),
        down=down,
        version=_VERSION.format(versions=place.versions, down=down),
        checksum=literal(entry.checksum),
        part=entry.part,
        done=entry.done,
        before=literal(entry.before),
        alone=_array(entry.alone),
        begun=literal(" ".join(entry.begun)),
        ended=literal("\n".join(map(" ".join, entry.ended))),
        counts=literal(entry.counts),
        lock=lock,
    )
    return bool(verbatim(connection, row).rowcount)


def still_hold(connection: sa.Connection, place: Place, revisions: Collection[str]) -> None:
    """Let the rows hold for the version table as the runner itself has just written it."""
    version = _VERSION.format(versions=place.versions, down="u.down")
    verbatim(connection, _about(_STILL_HOLD, place, revisions, version=version))


def forget(connection: sa.Connection, place: Place, revision: str) -> None:
    """Take the row away: in the transaction that writes the version and the history."""
    verbatim(connection, _about(_FORGET, place, [revision]))


def finished(manifest: Manifest, applied: Applied) -> frozenset[str]:
    """Return the revisions that have a row, and that somebody else has finished."""
    if not applied.begun:  # as for most runs, which need not go through all revisions for it
        return frozenset()
    return frozenset(applied.begun).intersection(done(manifest, applied))


def forget_finished(
    connection: psycopg.Connection, place: Place, manifest: Manifest, applied: Applied
) -> None:
    """Take those rows away: should it be taken back later, they would stand in the way."""
    if names := finished(manifest, applied):
        connection.execute(_about(_FORGET, place, names).encode())


def _about(query: str, place: Place, revisions: Iterable[str], **more: str) -> str:
    names = ", ".join(map(literal, revisions))
    return query.format(table=place.beside(UNFINISHED_TABLE), revisions=names, **more)


def _array(texts: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(map(literal, texts))}]::text[]"


def _exists(connection: psycopg.Connection, place: Place, table: str) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = %s AND tablename = %s)",
        [place.schema, table],
    ).fetchone()
    return bool(row and row[0])
