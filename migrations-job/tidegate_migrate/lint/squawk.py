"""squawk, a linter of PostgreSQL migrations: which of its rules count here, and its findings.

Squawk judges what a statement locks. All its other rules are left out: what breaks older clients
is told by Tidegate's own, which know the phase, the old type and what the revision itself makes;
transactions, time-outs and IF NOT EXISTS are the runner's affair; the rest is style.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tidegate_migrate.lint import rules
from tidegate_migrate.lint.rules import Breach, Concern, Level, Rule
from tidegate_migrate.statements import Rendered

__all__ = ["SQUAWK_RULES", "WITH_DEFAULT", "SquawkError", "check"]

_TIMEOUT: Final = 60.0  # seconds; it needs milliseconds
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - for a folder that only its owner enters

_error = partial(Rule, level=Level.ERROR, concern=Concern.LOCKS)
_warning = partial(Rule, level=Level.WARNING, concern=Concern.LOCKS)
_TWO_STEPS: Final = (
    "add it NOT VALID (postgresql_not_valid=True) in one revision and run VALIDATE CONSTRAINT in "
    "the next: that one blocks nobody"
)
_BLOCK: Final = "with op.get_context().autocommit_block():"

WITH_DEFAULT: Final = "adding-field-with-default"

SQUAWK_RULES: Final = {
    rule.name: rule
    for rule in (
        _error(
            "require-concurrent-index-creation",
            reason="writes to the table wait until the index is built",
            safe_form=f"`{_BLOCK}` op.create_index(..., postgresql_concurrently=True, "
            "if_not_exists=True)",
        ),
        _error(
            "require-concurrent-reindex",
            reason="writes to the table wait until the index is built again",
            safe_form=f"`{_BLOCK}` REINDEX ... CONCURRENTLY",
        ),
        _error(
            "adding-foreign-key-constraint",
            reason="writes to both tables wait until every row is checked",
            safe_form=_TWO_STEPS,
        ),
        _error(
            "constraint-missing-not-valid",
            reason="the table is blocked until every row is checked",
            safe_form=_TWO_STEPS,
        ),
        _error(
            "adding-not-nullable-field",
            reason="nobody reads or writes the table until every row is checked",
            safe_form="add CHECK (column IS NOT NULL) NOT VALID, VALIDATE it in a revision of its "
            "own, then SET NOT NULL: PostgreSQL takes the check's word",
        ),
        _error(
            WITH_DEFAULT,
            reason="PostgreSQL writes every row anew for a volatile default or a stored "
            "expression, and nobody reads or writes the table meanwhile",
            safe_form="add the column without it, then set the default, then backfill",
        ),
        _error(
            "adding-serial-primary-key-field",
            reason="nobody reads or writes the table until the index is built",
            safe_form="build a unique index CONCURRENTLY, then ADD PRIMARY KEY USING INDEX",
        ),
        _error(
            "disallowed-unique-constraint",
            reason="nobody reads or writes the table until the index is built",
            safe_form="build a unique index CONCURRENTLY, then ADD CONSTRAINT ... UNIQUE USING "
            "INDEX",
        ),
        _error(
            "ban-alter-domain-with-add-constraint",
            reason="every table that uses the domain is blocked until all its rows are checked",
            safe_form="add it NOT VALID, then ALTER DOMAIN ... VALIDATE CONSTRAINT in the next "
            "revision",
        ),
        _error(
            "require-concurrent-partition-detach",
            reason="nobody reads or writes the whole table until it is detached",
            safe_form=f"`{_BLOCK}` DETACH PARTITION ... CONCURRENTLY",
        ),
        _error(
            "ban-truncate-cascade",
            reason="it empties every table that refers to this one, whichever they are",
            safe_form="name each table to empty",
        ),
        _warning(
            "require-concurrent-index-deletion",
            reason="every query on the table waits behind it, up to the runner's lock time-out",
            safe_form=f"`{_BLOCK}` op.drop_index(..., postgresql_concurrently=True, "
            "if_exists=True)",
        ),
        _warning(
            "identifier-too-long",
            reason="PostgreSQL cuts the name at 63 bytes without an error",
            safe_form="choose a shorter name",
        ),
    )
}
"""The rules of squawk that count, by name, in Tidegate's words."""

# What no statement lacks that one of those rules is about: a word, or a name that may be too long.
_ABOUT: Final = re.compile(
    r"CHECK|CONSTRAINT|DEFAULT|DETACH|DOMAIN|EXCLUDE|GENERATED|INDEX|NULL|PRIMARY|REFERENCES|SERIAL"
    r"|TRUNCATE|UNIQUE|[\w$]{64}|\"(?:[^\"]|\"\"){64}|[^\x00-\x7f]"
)
_UNREAD: Final = "syntax-error"
_TOLD: Final = {*SQUAWK_RULES, _UNREAD}
_ANY_CONSTRAINT: Final = "constraint-missing-not-valid"
_BY_KIND: Final = {
    "adding-foreign-key-constraint",
    "adding-serial-primary-key-field",
    "disallowed-unique-constraint",
}
"""Rules that say more than the one for any constraint, which squawk reports beside them."""


class SquawkError(Exception):
    """Squawk could not be run; the text says why."""


@dataclass(frozen=True, slots=True)
class _Script:
    """A revision as squawk reads it, and the statement that each of its lines belongs to."""

    text: str
    owners: tuple[int, ...]


def check(
    revisions: Sequence[Rendered], server_version: int | None = None
) -> list[tuple[str, Breach]]:
    """Run squawk once over all the revisions and return (revision, breach) pairs.

    It is not run where none of them holds anything that its rules are about.
    ``server_version`` is libpq's number (180004), where a server was asked.

    Raises:
        SquawkError: the program is missing or does not answer.
    """
    revisions = [rendered for rendered in revisions if _ABOUT.search(rendered.sql.upper())]
    if not revisions:
        return []
    scripts = [_script(rendered) for rendered in revisions]
    try:
        with TemporaryDirectory(prefix="tidegate-lint-", dir=_memory()) as folder:
            for number, script in enumerate(scripts):
                (Path(folder) / f"{number}.sql").write_text(script.text, encoding="utf-8")
            answers = _run(folder, len(scripts), server_version)
    except OSError as error:
        raise SquawkError(f"squawk cannot be run ({error})") from None
    return list(_understand(answers, revisions, scripts))


def _memory() -> str | None:
    """Return a folder in memory, where there is one: a disk takes longer than squawk itself."""
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None


def _script(rendered: Rendered) -> _Script:
    """Write the statements with BEGIN and COMMIT where the runner begins and commits."""
    lines: list[str] = []
    owners: list[int] = []
    open_transaction = False
    for index, statement in enumerate(rendered.statements):
        parts = [f"{statement.sql};"]
        if statement.in_transaction is not open_transaction:
            parts.insert(0, "BEGIN;" if statement.in_transaction else "COMMIT;")
            open_transaction = statement.in_transaction
        text = "\n".join(parts).split("\n")
        lines += text
        owners += [index] * len(text)
    if open_transaction:
        lines.append("COMMIT;")
    return _Script("\n".join(lines) + "\n", tuple(owners))


def _run(folder: str, count: int, server_version: int | None) -> list[dict[str, Any]]:
    options = ["--reporter", "json"]
    if server_version:
        options += ["--pg-version", f"{server_version // 10_000}.{server_version % 10_000}"]
    command = [_program(), *options, *(f"{number}.sql" for number in range(count))]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT)
        return list(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise SquawkError(f"squawk gave no answer within {_TIMEOUT:g} s") from None
    except ValueError:
        raise SquawkError(f"squawk says: {' '.join(done.stderr.split())[:300]}") from None


def _program() -> str:
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if not found:
        raise SquawkError("there is no program squawk")
    return found


def _understand(
    answers: Sequence[dict[str, Any]], revisions: Sequence[Rendered], scripts: Sequence[_Script]
) -> Iterator[tuple[str, Breach]]:
    messages: dict[tuple[int, int, str], str] = {}
    for answer in answers:
        if answer["rule_name"] not in _TOLD:
            continue
        number = int(Path(answer["file"]).stem)
        owners = scripts[number].owners
        statement = owners[min(answer["line"], len(owners) - 1)]
        messages[number, statement, answer["rule_name"]] = " ".join(answer["message"].split())
    for (number, statement, name), message in messages.items():
        revision = revisions[number].revision
        by_kind = {(number, statement, other) for other in _BY_KIND}
        if name == _UNREAD:
            what = f"squawk does not parse it, nor look at the rest of the revision ({message})"
            yield revision, Breach(rules.NOT_UNDERSTOOD, statement, what)
        elif not (name == _ANY_CONSTRAINT and by_kind & messages.keys()):
            yield revision, Breach(SQUAWK_RULES[name], statement)
