"""What to backfill: a TOML file in the folder ``backfills`` beside the project's revisions.

``backfills/email_lower.toml`` is the backfill ``email_lower``::

    table = "users"
    set = "email_lower = lower(email)"
    where = "email_lower IS NULL"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from tidegate.schema import Failure
from tidegate_migrate.backfill.pace import Pace
from tidegate_migrate.backfill.throttle import Limits
from tidegate_migrate.failure import MigrateError

FOLDER: Final = "backfills"
BATCH: Final = "{batch}"
"""Stands in a statement for the condition that picks the rows of one batch."""
_FIELDS: Final = {"table", "key", "set", "where", "statement", "pace", "limits"}

_Section = TypeVar("_Section", Pace, Limits)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One backfill. ``key`` names columns; an empty one stands for the primary key.

    Either ``set`` (with or without ``where``) or a whole ``statement`` says what is done.
    """

    name: str
    table: str
    set: str = ""
    where: str = ""
    statement: str = ""
    key: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)

    @property
    def checksum(self) -> str:
        """The SHA-256 of what is done to which rows; the pace may change on the way."""
        work = [self.table, self.key, self.set, self.where, self.statement]
        return hashlib.sha256(json.dumps(work).encode()).hexdigest()

    def sql(self, table: str) -> str:
        """Return the statement of a batch on ``table``, with ``{batch}`` in it."""
        if self.statement:
            return self.statement
        # On lines of their own: an expression may end in a comment.
        where = f"\n  AND (\n    {self.where}\n  )" if self.where else ""
        return f"UPDATE {table}\nSET {self.set}\nWHERE {BATCH}{where}"


def names(folder: Path) -> list[str]:
    """Return the names of what is declared in a folder, in order."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read(folder: Path, name: str) -> Declaration:
    """Read the declaration ``name``.

    Raises:
        MigrateError: ``settings``; there is none of that name, or it is not a whole one.
    """
    path = folder / f"{name}.toml"
    if name not in names(folder):
        known = ", ".join(names(folder)) or "none at all"
        raise MigrateError(
            Failure.SETTINGS,
            f"there is no backfill {name!r} in {folder} (there is {known})",
            hint=f"write {path} with a table and what to set",
        )
    try:
        text = path.read_text(encoding="utf-8")
        return parse(name, text)
    except (OSError, ValueError) as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the backfill {path} cannot be read: {error}",
            hint='it needs table = "…" and set = "column = expression" (and where = "…")',
        ) from None


def parse(name: str, text: str) -> Declaration:
    """Make a declaration of its TOML.

    Raises:
        ValueError: what is wrong with it.
    """
    data = tomllib.loads(text)
    if unknown := sorted(data.keys() - _FIELDS):
        raise ValueError(f"nothing is called {unknown[0]!r}; there is {', '.join(sorted(_FIELDS))}")
    table, what = _text(data, "table"), _text(data, "set")
    where, statement = _text(data, "where"), _text(data, "statement")
    if not table:
        raise ValueError("table is missing")
    if bool(what) == bool(statement):
        raise ValueError("exactly one of set and statement is needed")
    if statement and (where or BATCH not in statement):
        raise ValueError(f"a statement has its own WHERE, with {BATCH} in it")
    return Declaration(
        name,
        table,
        what,
        where,
        statement,
        _key(data.get("key", [])),
        _section(data, "pace", Pace),
        _section(data, "limits", Limits),
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value.strip().removesuffix(";").strip()


def _key(value: object) -> tuple[str, ...]:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
        raise ValueError("key is neither a column nor a list of columns")
    return tuple(columns)


def _section(data: Mapping[str, Any], name: str, kind: type[_Section]) -> _Section:
    """Read a table of numbers, each of them a field of ``kind``."""
    values = data.get(name, {})
    if not isinstance(values, dict):
        raise ValueError(f"[{name}] is not a table")
    whole = {each.name: isinstance(each.default, int) for each in fields(kind)}
    for one, value in values.items():
        if one not in whole:
            raise ValueError(f"[{name}] has no {one}; it has {', '.join(whole)}")
        number = isinstance(value, int if whole[one] else (int, float))
        if isinstance(value, bool) or not number or not 0 <= value < float("inf"):
            kind_of = "a whole number" if whole[one] else "a number"
            raise ValueError(f"{one} of [{name}] is not {kind_of}, 0 or more")
    made = kind(**values)
    if isinstance(made, Pace):
        _check(made)
    return made


def _check(pace: Pace) -> None:
    if not 0 < pace.duty <= 1:
        raise ValueError("duty of [pace] is not above 0 and up to 1")
    if pace.batch_rows < 1 or pace.batch_seconds <= 0:
        raise ValueError("batch_rows and batch_seconds of [pace] are above 0")
    if pace.lock_timeout < 0.001 or pace.statement_timeout < 0.001:
        raise ValueError("lock_timeout and statement_timeout of [pace] are 0.001 or more")
