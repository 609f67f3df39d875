"""``tidegate migrate stamp --adopt``: give the revisions that Alembic has applied their rows.

Only the history is written; what Alembic keeps itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.schema import Applied, Failure, Outcome, Report
from tidegate_migrate import database, history, journal, rollback
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lint.check import Classified, classify
from tidegate_migrate.lock import migration_lock
from tidegate_migrate.looking import Opened, Say, opened
from tidegate_migrate.pooler import refuse_shared_connections
from tidegate_migrate.project import Project
from tidegate_migrate.settings import Settings

# The moment of the adoption stands in for what nobody has noted. A row whose phase nobody knows
# counts as none, and gets one.
_INSERT = """
INSERT INTO {table} (revision, phase, down, applied_at, duration_seconds, image, checksum,
  lint_ignored)
VALUES (%s, %s, %s, now(), 0, %s, %s, %s)
ON CONFLICT (revision) DO UPDATE SET phase = excluded.phase
"""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The revisions that get a row, from the base up, each with its phase and why."""

    report: Report
    revisions: Mapping[str, Classified]


def adopt(
    settings: Settings,
    say: Say,
    tell: Callable[[Mapping[str, Classified]], None],
    *,
    dry_run: bool,
) -> Adopted:
    """Write the missing rows, under the lock and in one transaction; ``tell`` hears of them first.

    With ``dry_run`` nothing is written.

    Raises:
        MigrateError: ``incompatible``: an applied revision is not shipped here and has no row, so
            nobody can tell what it did; else the database could not be read or written.
    """
    with opened(settings, say) as at:
        refuse_shared_connections(at.connection, settings.url)
        database.steady(at.connection, lock_timeout=settings.ddl_lock_timeout)
        applied = at.read()
        missing = classify(at.project, _missing(at.project, applied))
        tell(missing)
        finished = journal.finished(at.project.manifest, applied)
        if (missing or finished) and not dry_run:
            with migration_lock(at.connection, timeout=settings.lock_timeout, say=say):
                # Whoever held the lock until now may have written some of them, or gone on.
                applied = at.read()
                still = set(_missing(at.project, applied))
                journal.forget_finished(at.connection, at.place, at.project.manifest, applied)
                _write(at, {n: each for n, each in missing.items() if n in still}, settings.image)
        outcome = Outcome.DONE if missing else Outcome.NOTHING_TO_DO
        return Adopted(at.report(at.read(), outcome), missing)


def _missing(project: Project, applied: Applied) -> Sequence[str]:
    missing = rollback.without_row(project.manifest, applied)
    for name in missing:
        if name not in project.manifest.revisions:
            raise MigrateError(
                Failure.INCOMPATIBLE,
                f"the database holds revision {name}, which this project does not ship, so nobody "
                "can tell here what it did",
                hint=f"adopt the database with the release that ships {name}",
                revision=name,
            )
    return missing


def _write(at: Opened, revisions: Mapping[str, Classified], image: str) -> None:
    shipped = at.project.manifest.revisions
    with at.connection.transaction(), at.connection.cursor() as cursor:
        history.ensure(at.connection, at.place)
        cursor.executemany(
            _INSERT.format(table=at.place.history.replace("%", "%%")).encode(),
            [
                (
                    name,
                    found.phase.value,
                    list(shipped[name].down),
                    image,
                    at.project.checksum(name),
                    at.project.lint_ignored.get(name),
                )
                for name, found in revisions.items()
            ],
        )


HEADINGS = ("revision", "phase", "why")
"""What the columns of :func:`cells` are called."""


def cells(revisions: Mapping[str, Classified]) -> list[tuple[str, ...]]:
    """Return the revisions as a table for people."""
    return [(name, str(each.phase), each.reason) for name, each in revisions.items()]


def as_dicts(revisions: Mapping[str, Classified]) -> list[dict[str, str]]:
    """Return the revisions as ``stamp --json`` shows them."""
    return [
        {"revision": name, "phase": each.phase, "reason": each.reason}
        for name, each in revisions.items()
    ]
