"""``tidegate migrate lint``: judge what is pending in a database, or files without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.schema import Failure, Outcome, Report, Verdict
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lint.check import lint
from tidegate_migrate.lint.findings import Finding, errors
from tidegate_migrate.lint_first import refusal
from tidegate_migrate.looking import Say
from tidegate_migrate.planning import preview
from tidegate_migrate.project import Project, load
from tidegate_migrate.report import failed
from tidegate_migrate.screen import number
from tidegate_migrate.settings import AlembicOptions, Settings


@dataclass(frozen=True, slots=True)
class Linted:
    """The findings, and a report that has failed where one of them is an error.

    ``revisions`` says how many were looked at. Without a database the verdict is ``unknown``.
    """

    report: Report
    findings: tuple[Finding, ...]
    revisions: int
    empty_database: bool = False

    @property
    def summary(self) -> str:
        """Say in a line what was looked at and found."""
        if self.empty_database:
            return "nothing to judge: nobody uses an empty database (--all judges all the same)"
        return f"{number(self.revisions, 'revision')}: {count(self.findings)}"


def lint_pending(settings: Settings, say: Say) -> Linted:
    """Lint what is pending in the database; in an empty one that is nothing.

    Raises:
        MigrateError: the project does not load, or the database cannot be read.
    """
    found = preview(settings, say)
    if found.unlinted:
        return Linted(found.report, (), 0, empty_database=True)
    return _judged(found.report, found.findings, len(found.steps))


def lint_files(
    config_file: Path, options: AlembicOptions, names: Sequence[str], since: str
) -> Linted:
    """Lint revisions without a database, in the order of the history.

    Args:
        names: the revisions, or their files; none for all.
        since: leave out this revision and all that it builds on; "" for none.

    Raises:
        MigrateError: ``settings``: the project does not load, or a revision is not in it.
    """
    project = load(config_file, options)
    found = (_find(project, name) for name in names)
    chosen = frozenset().union(*found) if names else frozenset(project.manifest.revisions)
    if since:
        chosen -= project.ancestry(since)
    nowhere = Report(Outcome.NOTHING_TO_DO, Verdict.UNKNOWN)
    return _judged(nowhere, lint(project, chosen), len(chosen))


def count(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each weight."""
    ignored = sum(bool(finding.ignored) for finding in findings)
    stopping = len(errors(findings))
    parts = {
        "error": stopping,
        "warning": len(findings) - stopping - ignored,
        "ignored finding": ignored,
    }
    return ", ".join(number(n, noun) for noun, n in parts.items() if n) or "nothing found"


def _judged(report: Report, findings: tuple[Finding, ...], revisions: int) -> Linted:
    stopping = refusal(findings)
    return Linted(failed(stopping, report) if stopping else report, findings, revisions)


def _find(project: Project, name: str) -> frozenset[str]:
    """Return the revisions of a name, or the one of a file."""
    if not name.endswith(".py"):
        return project.named(name)
    if Path(name).name == "__init__.py":  # Alembic passes it over too
        return frozenset()
    wanted = Path(name).resolve()
    for each in project.manifest.revisions:
        if Path(project.scripts.get_revision(each).path).resolve() == wanted:
            return frozenset({each})
    raise MigrateError(
        Failure.SETTINGS,
        f"{name} is no revision of this project",
        hint="name a file from its versions folder, or a revision that `alembic history` lists",
    )
