"""What CREATE INDEX CONCURRENTLY leaves behind when it fails: an index that is INVALID.

Nothing uses such an index, every write keeps it up to date, and its name is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidegate_migrate.place import literal

_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_BEFORE: Final = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_CREATE: Final = re.compile(
    rf"{_BEFORE}CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+"
    rf"(?:IF\s+NOT\s+EXISTS\s+)?(?P<index>{_NAME})\s+ON\s+(?:ONLY\s+)?"
    rf"(?P<table>{_NAME}(?:\s*\.\s*{_NAME})?)",
    re.IGNORECASE | re.DOTALL,
)
_CONCURRENTLY: Final = re.compile(
    rf"{_BEFORE}(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\b|DROP\s+INDEX\s+CONCURRENTLY\b"
    r"|REINDEX\s*(?:\([^()]*\)\s*)?(?:INDEX|TABLE|SCHEMA|DATABASE)\s+CONCURRENTLY\b"
    r"|REINDEX\s*\([^()]*\bCONCURRENTLY\b"
    r"|REFRESH\s+MATERIALIZED\s+VIEW\s+CONCURRENTLY\b"
    rf"|ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?{_NAME}(?:\s*\.\s*{_NAME})?\s+DETACH\s+PARTITION\s+"
    rf"{_NAME}(?:\s*\.\s*{_NAME})?\s+CONCURRENTLY\b)",
    re.IGNORECASE | re.DOTALL,
)

_INVALID: Final = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND i.indrelid = to_regclass({table}) AND c.relname = {name}
"""


@dataclass(frozen=True, slots=True)
class ConcurrentIndex:
    """The index that a statement builds: its name, and its table as the statement writes it."""

    name: str
    table: str

    def find_invalid(self) -> str:
        """Return the query for the quoted name of an INVALID index of this name; no row: none."""
        return _INVALID.format(table=literal(self.table), name=literal(self.name))


def built_by(statement: str) -> ConcurrentIndex | None:
    """Return the index that ``CREATE INDEX CONCURRENTLY name ON table ...`` builds.

    ``None`` for any other statement, and for an index that PostgreSQL is to name itself.
    """
    found = _CREATE.match(statement)
    if found is None:
        return None
    name = found["index"]
    folded = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
    return ConcurrentIndex(folded, found["table"])


def waits_without_blocking(statement: str) -> bool:
    """Tell whether a statement waits for old transactions while everybody reads and writes on."""
    return _CONCURRENTLY.match(statement) is not None
