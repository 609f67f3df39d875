"""Where an env.py keeps its versions; the history lies beside them, in the same schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.schema import HISTORY_TABLE, own_table

VERSION_TABLE: Final = "alembic_version"
"""Alembic's own name for the table, unless env.py gives another."""

_FOUND: Final = """coalesce(
  (SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = to_regclass({name})),
  current_schema()::text
)"""


@dataclass(frozen=True, slots=True)
class Place:
    """One version table: its schema, found by the connection's search_path or named, and name.

    ``role`` is the one that env.py works as (it may say SET ROLE), "" for that of the URL.
    """

    schema: str
    version_table: str = VERSION_TABLE
    role: str = ""

    @property
    def versions(self) -> str:
        """The version table's name as SQL writes it."""
        return f"{identifier(self.schema)}.{identifier(self.version_table)}"

    @property
    def history(self) -> str:
        """The history table's name as SQL writes it."""
        return self.beside(HISTORY_TABLE)

    def own(self, table: str) -> str:
        """Return what one of the runner's tables is called for this version table."""
        return own_table(table, self.version_table)

    def beside(self, table: str) -> str:
        """Return the name, as SQL writes it, of one of the runner's tables, in the same schema."""
        return f"{identifier(self.schema)}.{identifier(self.own(table))}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.version_table}"


def find_schema(version_table: str, schema: str | None) -> str:
    """Return the query for the schema and the database of a version table, and the current role.

    Without a schema it is the one where the search_path finds the table, or would make it;
    NULL where the search_path names no schema that exists.
    """
    name = identifier(version_table)
    found = _FOUND.format(name=literal(name)) if schema is None else literal(schema)
    return f"SELECT {found}, current_database()::text, current_user::text"


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL, whatever ``standard_conforming_strings`` is set to."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
