"""``tidegate migrate plan``: what a run would apply now, what is left for later, and what it means.

It looks and changes nothing. What would make ``up`` refuse is a part of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tidegate.schema import Failure, Outcome, Report, Revision
from tidegate_migrate import rollback
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lint.changes import makes
from tidegate_migrate.lint.check import lint_rendered
from tidegate_migrate.lint.findings import Finding, errors
from tidegate_migrate.lint_first import excuse, excused_as_contract
from tidegate_migrate.looking import Say, opened
from tidegate_migrate.plan import Plan
from tidegate_migrate.project import Project
from tidegate_migrate.settings import Settings
from tidegate_migrate.statements import Rendered, Statement, render
from tidegate_migrate.table_locks import TableLock, locks


class When(StrEnum):
    """When a pending revision is applied: by this run, by another one, or this run refuses it."""

    NOW = "now"
    LATER = "later"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """One statement; ``locks`` are those on tables in use, ``None`` where nobody can tell."""

    statement: Statement
    locks: tuple[TableLock, ...] | None


@dataclass(frozen=True, slots=True)
class Step:
    """One pending revision: when it is applied, its first line of words, and what it runs.

    ``missing`` says why there may be more statements than those, "" where there are not.
    """

    revision: Revision
    when: When
    words: str
    file: str
    statements: tuple[PlannedStatement, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What ``plan`` shows. ``report`` says where the database stands before.

    ``refusal`` is what ``up`` would fail with after it has applied what is for now.
    ``needed_now`` and ``needed_after`` are the revisions that an image has to ship so that a
    rollback to it is safe, before and after; empty means any image.
    ``without_row`` are applied revisions of which the history says nothing. ``unlinted`` tells
    that the database is empty: there nobody can be hurt, so lint is not asked.
    """

    report: Report
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    refusal: MigrateError | None
    needed_now: tuple[str, ...]
    needed_after: tuple[str, ...]
    without_row: tuple[str, ...]
    unlinted: bool

    def of(self, when: When) -> tuple[Step, ...]:
        """Return the steps of one time."""
        return tuple(step for step in self.steps if step.when is when)

    @property
    def failure(self) -> Failure | None:
        """What ``up`` would fail with now, as far as that can be known before."""
        now = {step.revision.id for step in self.of(When.NOW)}
        if errors(finding for finding in self.findings if finding.revision in now):
            return Failure.LINT
        return self.refusal.failure if self.refusal else None


def preview(settings: Settings, say: Say) -> Preview:
    """Look at the project and the database, and tell what a run with these settings would do.

    Raises:
        MigrateError: the project does not load, there is no such revision, or the database cannot
            be read.
    """
    with opened(settings, say) as at:
        applied = at.read()
        refusal: MigrateError | None = None
        try:
            plan = at.plan(settings, applied)
            refusal = plan.refusal
        except MigrateError as error:
            if error.failure is not Failure.INCOMPATIBLE:
                raise
            plan, refusal = Plan(), error
        version = at.connection.info.server_version
    report = at.report(applied, Outcome.DONE if plan.revisions else Outcome.NOTHING_TO_DO)
    rendered = render(at.project, report.pending)
    findings = () if plan.empty else _lint_apart(at.project, plan, rendered, version)
    if settings.nobody_runs_older:
        findings = excuse(at.project.manifest, findings)
    then = excused_as_contract(at.project.manifest, findings)
    return Preview(
        report,
        _steps(at.project, plan, rendered),
        findings,
        refusal,
        rollback.needed(at.project.manifest, applied),
        rollback.needed(then, applied, plan.revisions),
        rollback.without_row(at.project.manifest, applied),
        unlinted=plan.empty and bool(rendered),
    )


def _lint_apart(
    project: Project, plan: Plan, rendered: Sequence[Rendered], server_version: int
) -> tuple[Finding, ...]:
    """Lint what runs now, and what runs later: then the tables that the first make are in use."""
    now = [each for each in rendered if each.revision in plan.revisions]
    later = [each for each in rendered if each.revision not in plan.revisions]
    found = (lint_rendered(project, each, server_version) for each in (now, later))
    return tuple(finding for findings in found for finding in findings)


def _steps(project: Project, plan: Plan, rendered: Sequence[Rendered]) -> tuple[Step, ...]:
    steps: list[Step] = []
    fresh: set[str] = set()
    for each in rendered:
        name = each.revision
        when = When.NOW if name in plan.revisions else When.LATER
        when = When.REFUSED if name in plan.blocked else when
        shown: list[PlannedStatement] = []
        for statement in each.statements:
            fresh |= makes([statement])
            taken = locks(statement.sql)
            if taken is not None:  # nobody waits for a table that is not there yet
                taken = tuple(lock for lock in taken if lock.table not in fresh)
            shown.append(PlannedStatement(statement, taken))
        words = (project.scripts.get_revision(name).doc or "").partition("\n")[0]
        revision = project.manifest.revisions[name]
        steps.append(Step(revision, when, words, each.file, tuple(shown), each.missing))
    return tuple(steps)
