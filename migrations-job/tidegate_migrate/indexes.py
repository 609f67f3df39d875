"""What an index that is built CONCURRENTLY leaves behind when that fails: one that is INVALID.

Nothing uses such an index, every write keeps it up to date, and its name is taken. But one that
somebody is building at the moment looks just the same.
"""

from __future__ import annotations

import re
from typing import Final

from tidegate_migrate.place import literal

_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
QUALIFIED: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
"""A name with or without its schema, as a pattern."""

COMMENTS: Final = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
"""What may stand before a statement, as a pattern."""

_CREATE: Final = re.compile(
    rf"{COMMENTS}CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+"
    rf"(?:(?:IF\s+NOT\s+EXISTS\s+)?(?P<index>(?!ON\b){_NAME})\s+)?ON\s+(?:ONLY\s+)?"
    rf"(?P<table>{QUALIFIED})",
    re.IGNORECASE | re.DOTALL,
)
_REINDEX: Final = re.compile(
    rf"{COMMENTS}REINDEX\s*(?P<options>\([^()]*\))?\s*(?P<what>INDEX|TABLE)\s+"
    rf"(?P<here>CONCURRENTLY\s+)?(?P<name>{QUALIFIED})",
    re.IGNORECASE | re.DOTALL,
)
_DROP: Final = re.compile(
    rf"{COMMENTS}DROP\s+INDEX\s+CONCURRENTLY\s+(?:IF\s+EXISTS\s+)?(?P<name>{QUALIFIED})",
    re.IGNORECASE | re.DOTALL,
)
_CONCURRENTLY: Final = re.compile(
    rf"{COMMENTS}(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\b|DROP\s+INDEX\s+CONCURRENTLY\b"
    r"|REINDEX\s*(?:\([^()]*\)\s*)?(?:INDEX|TABLE|SCHEMA|DATABASE)\s+CONCURRENTLY\b"
    r"|REINDEX\s*\([^()]*\bCONCURRENTLY\b"
    r"|REFRESH\s+MATERIALIZED\s+VIEW\s+CONCURRENTLY\b)",
    re.IGNORECASE | re.DOTALL,
)

_INVALID: Final = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND {which}
"""
# Who builds keeps a lock on the table from the beginning to the end. Of another role's backend the
# server does not tell which index it builds; but of two on one table, one has to wait anyway.
_BUILDERS: Final = """
SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename, 'unknown'), a.state,
       extract(epoch FROM clock_timestamp() - a.query_start)
FROM pg_stat_progress_create_index p
JOIN pg_stat_activity a ON a.pid = p.pid
JOIN pg_locks l ON l.pid = p.pid AND l.relation = {table} AND l.mode = 'ShareUpdateExclusiveLock'
WHERE p.pid <> pg_backend_pid() AND p.datname = current_database()
"""
_OF_THE_TABLE: Final = "i.indrelid = to_regclass({table})"
# One that PostgreSQL has named, and another of the same making that is valid.
_TWIN: Final = """ c.relname ~ '_idx[0-9]*$' AND EXISTS (
  SELECT FROM pg_index v WHERE v.indisvalid AND v.indrelid = i.indrelid
  AND {same}
)""".format(
    same=" AND ".join(
        f"{part.format('v')} IS NOT DISTINCT FROM {part.format('i')}"
        for part in (
            "{}.indisunique",
            "{}.indkey::text",
            "{}.indclass::text",
            "{}.indcollation::text",
            "{}.indoption::text",
            "pg_get_expr({0}.indexprs, {0}.indrelid)",
            "pg_get_expr({0}.indpred, {0}.indrelid)",
            "(SELECT relam FROM pg_class WHERE oid = {}.indexrelid)",
        )
    )
)
# REINDEX's own names: for the new index until it is whole, for the old one until it is gone.
_COPIES: Final = """c.relname ~ '_cc(new|old)[0-9]*$' AND i.indrelid IN (
  SELECT unnest(ARRAY[t.oid, t.reltoastrelid]) FROM pg_class t WHERE t.oid = {table}
)"""
_TABLE_OF_INDEX: Final = "(SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass({name}))"


def invalid_before(statement: str) -> str:
    """Return the query for what is in the way of a statement, or was left by an earlier try of it.

    That is the quoted name, with its schema, of each INVALID index; "" where there is none to be
    found before the statement has run.
    """
    if (created := _CREATE.match(statement)) and created["index"]:
        ours = _OF_THE_TABLE.format(table=literal(created["table"]))
        name = literal(_folded(created["index"]))
        return _INVALID.format(which=f"{ours} AND c.relname = {name}")
    if _REINDEX.match(statement) and waits_without_blocking(statement):
        return _INVALID.format(which=_COPIES.format(table=_table_of(statement)))
    return ""


def invalid_after(statement: str) -> str:
    """Return the query, as :func:`invalid_before`, for what is found once the statement has run.

    An index that PostgreSQL names itself gets another name at each try; those that failed are
    known by the one that did not.
    """
    created = _CREATE.match(statement)
    if created is None or created["index"]:
        return ""
    ours = _OF_THE_TABLE.format(table=literal(created["table"]))
    return _INVALID.format(which=f"{ours} AND {_TWIN}")


def builders(statement: str) -> str:
    """Return the query for who else builds an index, CONCURRENTLY, on the statement's table.

    That is backend, name, state and seconds of each; "" where the statement stands in nobody's way.
    """
    table = _table_of(statement) if waits_without_blocking(statement) else ""
    return _BUILDERS.format(table=table) if table else ""


def _table_of(statement: str) -> str:
    """Return what stands in SQL for the table whose index the statement is about."""
    if created := _CREATE.match(statement):
        return f"to_regclass({literal(created['table'])})"
    about = _REINDEX.match(statement) or _DROP.match(statement)
    if about is None:
        return ""
    if about.groupdict().get("what", "").upper() == "TABLE":
        return f"to_regclass({literal(about['name'])})"
    return _TABLE_OF_INDEX.format(name=literal(about["name"]))


def _folded(name: str) -> str:
    """Return a name as the catalogue has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def waits_without_blocking(statement: str) -> bool:
    """Tell whether a statement waits for old transactions while everybody reads and writes on.

    DETACH PARTITION CONCURRENTLY does not: in the end it queues for the partition.
    """
    return _CONCURRENTLY.match(statement) is not None
