"""``tidegate migrate history``: the rows of the history, and whether their files still fit them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from tidegate.schema import Applied, Report
from tidegate_migrate import rollback
from tidegate_migrate.looking import Opened, Say, opened
from tidegate_migrate.project import Project
from tidegate_migrate.settings import Settings

# An older runner's table may lack the last column: so it is asked for by way of the whole row.
_READ: Final = """
SELECT revision, phase, applied_at, duration_seconds, image, checksum,
  to_jsonb(h) ->> 'lint_ignored'
FROM {table} h
"""


class File(StrEnum):
    """How the file that this image ships stands to the one that was applied."""

    SAME = "same"
    CHANGED = "changed"
    NOT_SHIPPED = "not shipped"


@dataclass(frozen=True, slots=True)
class Row:
    """One row. ``is_applied`` is false after a downgrade; ``seconds`` is how long it took."""

    revision: str
    phase: str
    applied_at: datetime
    seconds: float
    image: str
    file: File
    lint_ignored: Mapping[str, str]
    is_applied: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``history --json`` shows it."""
        return {**asdict(self), "applied_at": self.applied_at.isoformat()}


@dataclass(frozen=True, slots=True)
class History:
    """All rows, the first applied first, and the applied revisions that have none."""

    report: Report
    rows: tuple[Row, ...]
    without_row: tuple[str, ...]


def history(settings: Settings, say: Say) -> History:
    """Read the rows.

    Raises:
        MigrateError: the project does not load, or the database cannot be read.
    """
    with opened(settings, say) as at:
        applied = at.read()
        return History(
            at.report(applied),
            tuple(_read(at, applied)) if applied.history else (),
            rollback.without_row(at.project.manifest, applied),
        )


def _read(at: Opened, applied: Applied) -> list[Row]:
    revisions = at.project.manifest.revisions
    done = rollback.done(at.project.manifest, applied)
    rows = [
        Row(
            name,
            phase,
            applied_at,
            seconds,
            image,
            _file(at.project, name, checksum),
            _lint_ignored(ignored),
            name in done,
        )
        for name, phase, applied_at, seconds, image, checksum, ignored in at.connection.execute(
            _READ.format(table=at.place.history).encode(),
            binary=True,  # as text, a time looks as the database's DateStyle wants it
        )
    ]
    # Those that were adopted have one time: the order of the files is theirs.
    order = {name: index for index, name in enumerate(revisions)}
    return sorted(rows, key=lambda row: (row.applied_at, order.get(row.revision, len(order))))


def _lint_ignored(text: str | None) -> Mapping[str, str]:
    # An older runner kept whatever the file had declared.
    declared = json.loads(text) if text else {}
    return declared if isinstance(declared, dict) else {}


def _file(project: Project, name: str, checksum: str) -> File:
    if name not in project.manifest.revisions:
        return File.NOT_SHIPPED
    return File.SAME if project.checksum(name) == checksum else File.CHANGED


HEADINGS: Final = ("revision", "phase", "applied at", "took", "image", "file", "lint ignored")
"""What the columns of :func:`cells` are called."""


def cells(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return the rows as a table for people."""
    return [
        (
            row.revision,
            row.phase,
            f"{row.applied_at:%Y-%m-%d %H:%M:%S %Z}" + ("" if row.is_applied else ", taken back"),
            f"{row.seconds:.3f} s",
            row.image or "?",
            row.file,
            ", ".join(f"{rule} ({reason})" for rule, reason in row.lint_ignored.items()),
        )
        for row in rows
    ]
