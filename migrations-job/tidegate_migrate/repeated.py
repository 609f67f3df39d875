"""What a statement finds, and answers, that an earlier run has done before, or half of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidegate_migrate.indexes import COMMENTS, QUALIFIED
from tidegate_migrate.place import literal

# What makes an object finds it there already.
_THERE: Final = {
    "42P07",  # duplicate_table, which an index is, too
    "42710",  # duplicate_object
    "42701",  # duplicate_column
    "42P06",  # duplicate_schema
    "42723",  # duplicate_function
    "42P04",  # duplicate_database
}
# What takes one away, or its name, finds it gone.
_GONE: Final = {
    "42P01",  # undefined_table
    "42704",  # undefined_object
    "42883",  # undefined_function
    "3F000",  # invalid_schema_name
    "3D000",  # invalid_catalog_name: an undefined database
}
_GONE_OF_A_TABLE: Final = {
    "42703",  # undefined_column
    "42704",  # undefined_object
}
_ALTER: Final = (
    rf"{COMMENTS}ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<table>{QUALIFIED})\s+"
)
# Codes that say so only of these statements: any other may name what has never been there.
_ALREADY_OF: Final = tuple(
    (code, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for code, pattern in (
        *((code, rf"{COMMENTS}(?:CREATE|ALTER)\b") for code in _THERE),
        *((code, rf"{COMMENTS}DROP\b") for code in _GONE),
        *((code, rf"{COMMENTS}ALTER\b.*\b(?:RENAME\s+TO|SET\s+SCHEMA)\b") for code in _GONE),
        *((code, rf"{COMMENTS}ALTER\b.*\b(?:DROP|RENAME)\b") for code in _GONE_OF_A_TABLE),
        ("42P01", rf"{_ALTER}DETACH\s+PARTITION\b"),
        # object_not_in_prerequisite_state: an index is a constraint, a column has an identity
        ("55000", rf"{_ALTER}ADD\s+.*\bUSING\s+INDEX\s+(?!TABLESPACE)"),
        ("55000", rf"{_ALTER}ALTER\s+.*\b(?:ADD\s+GENERATED|DROP\s+(?:IDENTITY|EXPRESSION))\b"),
        # invalid_table_definition: a second primary key
        ("42P16", rf"{_ALTER}ADD\s+.*\bPRIMARY\s+KEY\b"),
        # wrong_object_type: a partition of this table, or of another
        ("42809", rf"{_ALTER}ATTACH\s+PARTITION\b"),
        # invalid_parameter_value: the enum has no such label any more
        ("22023", rf"{COMMENTS}ALTER\s+TYPE\s+{QUALIFIED}\s+RENAME\s+VALUE\b"),
    )
)
_DETACH: Final = re.compile(
    rf"{_ALTER}DETACH\s+PARTITION\s+(?P<partition>{QUALIFIED})\s+CONCURRENTLY\b",
    re.IGNORECASE | re.DOTALL,
)
_PENDING: Final = """
SELECT FROM pg_inherits WHERE inhdetachpending
AND inhparent = to_regclass({table}) AND inhrelid = to_regclass({partition})
"""


def is_answered_already(statement: str, code: str) -> bool:
    """Tell whether PostgreSQL's code says that what the statement does is done already."""
    return any(code == each and pattern.match(statement) for each, pattern in _ALREADY_OF)


@dataclass(frozen=True, slots=True)
class Detachment:
    """A partition that is detached beside its users, in two transactions; names as written."""

    table: str
    partition: str

    def find_pending(self) -> str:
        """Return the query that finds a row where only the first of the two is committed."""
        return _PENDING.format(table=literal(self.table), partition=literal(self.partition))

    def finalize(self) -> str:
        """Return the statement that does the rest."""
        return f"ALTER TABLE {self.table} DETACH PARTITION {self.partition} FINALIZE"


def detached_by(statement: str) -> Detachment | None:
    """Return what ``ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY`` detaches."""
    found = _DETACH.match(statement)
    return Detachment(found["table"], found["partition"]) if found else None
