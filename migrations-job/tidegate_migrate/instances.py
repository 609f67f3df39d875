"""The table ``tidegate_instances``: one row for each service process, kept by its heartbeat.

The runner makes the table and reads it; only the service's library (:mod:`tidegate.heartbeat`)
writes rows, and takes away its own at the end and those of processes long gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidegate.schema import GONE_AFTER, INSTANCES_TABLE

if TYPE_CHECKING:
    import psycopg

    from tidegate_migrate.place import Place

# The service may well log in as another role than the migration, and which one cannot be known
# here: so every role may keep its row. Who makes rows up, or deletes others', can hold a contract
# revision back or let it pass as --nobody-runs-older does, and reaches nothing else. Granted only
# with the table: what an administrator revokes or grants afterwards stays so.
_CREATE: Final = """
CREATE TABLE {table} (
  instance text PRIMARY KEY,
  heads text[] NOT NULL,
  image text NOT NULL,
  started_at timestamptz NOT NULL,
  unbroken_since timestamptz NOT NULL,
  seen_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO PUBLIC
"""

# Every role may write here: also what no heartbeat does, a NULL or an infinite time.
_AGES: Final = ", ".join(
    "greatest(-1e9, least(1e9, "
    f"extract(epoch FROM now())::float8 - extract(epoch FROM {since})::float8))"
    for since in ("started_at", "unbroken_since", "seen_at")
)
_READ: Final = """
SELECT instance, array_remove(heads, NULL), image, {ages} FROM {table}
ORDER BY seen_at DESC, instance
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """A service process as it last reported. Ages are in seconds, by the database's clock.

    ``heads`` are those of the revisions that its image ships, ``uptime`` is since its first
    report, ``unbroken`` since the first of those that came without a gap up to the last one,
    ``silence`` since the last one: negative if the clock was set back since.
    """

    name: str
    heads: frozenset[str]
    image: str
    uptime: float
    unbroken: float
    silence: float

    @property
    def seen(self) -> bool:
        """Whether it reported within the last minute (or in what is now the future)."""
        return self.silence < GONE_AFTER

    def as_dict(self) -> dict[str, object]:
        """Return it as ``status --json`` shows it."""
        return {
            "instance": self.name,
            "image": self.image,
            "heads": sorted(self.heads),
            "uptime_seconds": round(self.uptime),
            "seen_seconds_ago": round(self.silence),
            "seen": self.seen,
        }


HEADINGS: Final = ("instance", "image", "ships up to", "up for", "last seen")
"""What the columns of :func:`rows` are called."""


def rows(instances: Iterable[Instance]) -> list[tuple[str, ...]]:
    """Return who runs what as a table for people, the last seen first."""
    return [
        (
            each.name,
            each.image or "?",
            ", ".join(sorted(each.heads)) or "nothing",
            f"{each.uptime:.0f} s",
            f"{each.silence:.0f} s ago" + ("" if each.seen else ", gone or silent"),
        )
        for each in instances
    ]


def ensure(connection: psycopg.Connection, place: Place) -> None:
    """Create the table where it is missing, writable for whatever role the service has."""
    if not _exists(connection, place):
        table = place.beside(INSTANCES_TABLE)
        connection.execute(_CREATE.format(table=table).encode())


def read(connection: psycopg.Connection, place: Place) -> tuple[Instance, ...]:
    """Read who reported, the last seen first; without the table, nobody did."""
    if not _exists(connection, place):
        return ()
    query = _READ.format(ages=_AGES, table=place.beside(INSTANCES_TABLE))
    found = connection.execute(query.encode())
    return tuple(Instance(name, frozenset(heads), *rest) for name, heads, *rest in found)


def _exists(connection: psycopg.Connection, place: Place) -> bool:
    name = place.beside(INSTANCES_TABLE)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])
