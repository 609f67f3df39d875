"""Is the database empty? In an empty one nobody is there to be hurt.

No version row alone does not say so: the tables may have been made by other means, or the
versions kept elsewhere until now.
"""

from __future__ import annotations

from typing import Final

import psycopg

from tidegate.schema import HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE, Applied
from tidegate_migrate import instances
from tidegate_migrate.place import Place

# Tables where the versions are kept, or where the search_path finds them: in a database that
# several applications share, the others' schemas are full, and a first release is one all the same.
_IN_USE: Final = """
SELECT EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'f')
  AND (n.nspname = %(schema)s OR n.nspname = ANY (current_schemas(false)))
  AND NOT (n.nspname = %(schema)s AND c.relname = ANY (%(ours)s))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
    AND d.objid = c.oid AND d.deptype = 'e')
)
"""


def is_empty(connection: psycopg.Connection, place: Place, applied: Applied) -> bool:
    """Tell whether nothing was applied, no table is there to be used, and no process reports."""
    if applied.heads or applied.history:
        return False
    tables = (HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE)
    ours = [place.version_table, *map(place.own, tables)]
    row = connection.execute(_IN_USE, {"schema": place.schema, "ours": ours}).fetchone()
    return not (row and row[0]) and not instances.read(connection, place)
