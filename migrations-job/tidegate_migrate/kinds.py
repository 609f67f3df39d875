"""What kind of statement a text is, as far as it shows. Pure.

None of this decides what is committed: PostgreSQL itself is asked for that.
"""

from __future__ import annotations

import re
from typing import Final

from tidegate_migrate.indexes import COMMENTS

_TEMP: Final = r"(?:(?:LOCAL|GLOBAL)\s+)?TEMP"
_TEMPORARY: Final = re.compile(rf"{COMMENTS}CREATE\s+{_TEMP}", re.IGNORECASE | re.DOTALL)
_SETTING: Final = re.compile(
    rf"{COMMENTS}(?:SET|RESET|SELECT\s+(?:pg_catalog\.)?set_config)\b", re.IGNORECASE | re.DOTALL
)
_LOCKS_ROWS: Final = re.compile(
    r"\bFOR\s+(?:(?:NO\s+KEY\s+)?UPDATE|(?:KEY\s+)?SHARE)\b", re.IGNORECASE
)
_NOWAIT: Final = re.compile(r"\bNOWAIT\b", re.IGNORECASE)
_SAVEPOINT: Final = re.compile(
    rf"{COMMENTS}(?:SAVEPOINT|RELEASE|ROLLBACK\s+TO)\b", re.IGNORECASE | re.DOTALL
)
_READS: Final = re.compile(
    rf"{COMMENTS}(?:\(\s*)*(?:SELECT|VALUES|TABLE|SHOW|EXPLAIN|SET|RESET|DECLARE|FETCH|CLOSE"
    r"|WITH\b(?!.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_CHANGES_OBJECTS: Final = re.compile(
    rf"{COMMENTS}(?:CREATE\s+(?!{_TEMP})|ALTER\b|DROP\b|REINDEX\b|REFRESH\b"
    r"|COMMENT\b|GRANT\b|REVOKE\b|TRUNCATE\b|CLUSTER\b|VACUUM\b|ANALYZE\b|SECURITY\s+LABEL\b)",
    re.IGNORECASE | re.DOTALL,
)


def locks_rows(statement: str) -> bool:
    """Tell whether a statement locks what it reads, which nothing that only reads can."""
    return _LOCKS_ROWS.search(statement) is not None


def makes_temporary(statement: str) -> bool:
    """Tell whether a statement makes a table that goes with its connection."""
    return _TEMPORARY.match(statement) is not None


def has_nowait(statement: str) -> bool:
    """Tell whether a statement asks not to wait for a lock: its failure is an answer."""
    return _NOWAIT.search(statement) is not None


def is_savepoint(statement: str) -> bool:
    """Tell whether a statement makes, ends or goes back to a savepoint; SQLAlchemy does so, too."""
    return _SAVEPOINT.match(statement) is not None


def is_read(statement: str) -> bool:
    """Tell whether a statement is asked for its answer; a function in it may still write."""
    return _READS.match(statement) is not None


def changes_objects(statement: str) -> bool:
    """Tell whether a statement changes what others use and has no answer that anybody could need.

    A temporary table is the session's own.
    """
    return _CHANGES_OBJECTS.match(statement) is not None


def is_setting(statement: str) -> bool:
    """Tell whether a text only sets something for the session or the transaction."""
    return _sets(statement) and settings_in(statement) == _pieces(statement)


def settings_in(statement: str) -> list[str]:
    """Return those statements of a text that set something for the session or the transaction."""
    return [piece for piece in _pieces(statement) if _sets(piece)]


def _sets(statement: str) -> bool:
    return _SETTING.match(statement) is not None


def _pieces(text: str) -> list[str]:
    if ";" not in text.rstrip().rstrip(";"):
        return [text]
    from tidegate_migrate.lint.parsing import split

    return split(text)
