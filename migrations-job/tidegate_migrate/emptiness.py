"""Is the database empty? In an empty one nobody is there to be hurt.

No version row alone does not say so: the tables may have been made by other means, or the
versions kept elsewhere until now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final

import psycopg

from tidegate.schema import HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE, Applied
from tidegate_migrate import instances
from tidegate_migrate.place import Place, identifier

if TYPE_CHECKING:
    from tidegate_migrate.statements import Rendered

# Whether each is where the versions are kept, or where the search_path finds it.
_TABLES: Final = """
SELECT DISTINCT n.nspname = %(schema)s OR n.nspname = ANY (current_schemas(false))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f')
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
AND NOT (n.nspname = %(schema)s AND c.relname = ANY (%(ours)s))
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
  AND d.objid = c.oid AND d.deptype = 'e')
"""
_ANY_OF: Final = "SELECT bool_or(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) AS t (name)"

Changed = Callable[[], Collection[str] | None]
"""The tables that the pending revisions change, as SQL writes them; ``None``: nobody can tell."""


def is_empty(
    connection: psycopg.Connection, place: Place, applied: Applied, changed: Changed
) -> bool:
    """Tell whether nothing was applied, no table is there to be used, and no process reports.

    In a database that several applications share the others' schemas are full, and a first release
    is one all the same: as long as its revisions change none of those tables.
    """
    if applied.heads or applied.history:
        return False
    tables = (HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE)
    ours = [place.version_table, *map(place.own, tables)]
    found = connection.execute(_TABLES, {"schema": place.schema, "ours": ours}).fetchall()
    if (True,) in found or instances.read(connection, place):
        return False
    if not found:
        return True
    names = changed()
    if names is None:
        return False
    row = connection.execute(_ANY_OF, [list(names)]).fetchone()
    return not (row and row[0])


def changed_by(revisions: Iterable[Rendered]) -> frozenset[str] | None:
    """Return the tables that revisions change; ``None`` where not all of their SQL is known."""
    from tidegate_migrate.lint.changes import touches

    names: set[str] = set()
    for each in revisions:
        if each.missing:
            return None
        for at in range(len(each.statements)):
            names |= touches(each.statements, at)
    return frozenset(".".join(map(identifier, name.split("."))) for name in names)
