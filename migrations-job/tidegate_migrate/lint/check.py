"""Lints given revisions of a project, and tells which old ones were contract revisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate.schema import Phase
from tidegate_migrate.lint import rules, squawk
from tidegate_migrate.lint.changes import adds_virtual_columns, breaches, makes, touches
from tidegate_migrate.lint.findings import Finding
from tidegate_migrate.lint.rules import Breach, Concern, Level, Rule
from tidegate_migrate.project import Project
from tidegate_migrate.statements import Rendered, render

__all__ = ["Classified", "classify", "lint", "lint_rendered"]


@dataclass(frozen=True, slots=True)
class Classified:
    """The phase that an old revision should have had, and why."""

    phase: Phase
    reason: str


def lint(
    project: Project, revisions: Collection[str], server_version: int | None = None
) -> tuple[Finding, ...]:
    """Lint the revisions that are to run next, in the order they will run.

    ``server_version`` is libpq's number of the server that will run them (180004).
    """
    return lint_rendered(project, render(project, revisions), server_version)


def lint_rendered(
    project: Project, revisions: Sequence[Rendered], server_version: int | None = None
) -> tuple[Finding, ...]:
    """Lint what :func:`render` gave; for those who show the SQL as well."""
    by_squawk, unavailable = _squawk(revisions, server_version)
    findings = list(unavailable)
    fresh: set[str] = set()
    for rendered in revisions:
        phase = project.manifest.revisions[rendered.revision].phase
        found = [*_own(rendered, phase, fresh), *_on_busy_tables(by_squawk, rendered, fresh)]
        findings += _ignore(project, rendered, found)
        fresh |= makes(rendered.statements)
    return tuple(findings)


def classify(project: Project, revisions: Collection[str]) -> Mapping[str, Classified]:
    """Tell the phase of revisions that were written before anybody declared one.

    A revision that breaks older images counts as contract, and so does one that cannot be read:
    whoever rolls back behind it must look first.
    """
    return {
        rendered.revision: _classify(project, rendered) for rendered in render(project, revisions)
    }


def _classify(project: Project, rendered: Rendered) -> Classified:
    if project.manifest.revisions[rendered.revision].phase is Phase.CONTRACT:
        return Classified(Phase.CONTRACT, "the revision declares it")
    for finding in _ignore(project, rendered, _own(rendered, Phase.EXPAND, ())):
        rule = rules.RULES[finding.rule]
        breaks = rule.concern is Concern.IMAGES and rule.level is Level.ERROR
        if (breaks or rule is rules.NOT_UNDERSTOOD) and not finding.ignored:
            return Classified(Phase.CONTRACT, finding.reason)
    return Classified(Phase.EXPAND, "nothing in it breaks an older image")


def _own(rendered: Rendered, phase: Phase, fresh: Collection[str]) -> Iterator[Finding]:
    if rendered.missing:
        what = f"not all of it can be shown offline, {rendered.missing}"
        unread = _about(rendered, rules.NOT_RENDERABLE, what)
        # What a contract revision locks is not known either, but it may break older images.
        yield unread if phase is Phase.EXPAND else replace(unread, level=Level.WARNING)
    for breach in breaches(rendered.statements, fresh):
        if phase is Phase.EXPAND or breach.rule.concern is not Concern.IMAGES:
            yield _finding(rendered, breach)


def _squawk(
    revisions: Sequence[Rendered], server_version: int | None
) -> tuple[list[tuple[str, Breach]], list[Finding]]:
    if not any(rendered.statements for rendered in revisions):
        return [], []
    try:
        return squawk.check(revisions, server_version), []
    except squawk.SquawkError as error:
        rule = rules.SQUAWK_UNAVAILABLE
        finding = Finding("", rule.name, rule.level, f"{error}: {rule.reason}", rule.safe_form)
        return [], [finding]


def _on_busy_tables(
    found: Iterable[tuple[str, Breach]], rendered: Rendered, fresh: Collection[str]
) -> Iterator[Finding]:
    """Leave out what would block only tables that no one uses yet."""
    for revision, breach in found:
        if revision == rendered.revision:
            before, at = rendered.statements[: breach.statement], breach.statement
            names = touches(rendered.statements, at)
            unused = bool(names) and names <= makes(before).union(fresh)
            # Squawk knows of stored ones only: virtual columns came with PostgreSQL 18.
            virtual = breach.rule.name == squawk.WITH_DEFAULT and adds_virtual_columns(
                rendered.statements, at
            )
            if not virtual and (breach.rule.concern is not Concern.LOCKS or not unused):
                yield _finding(rendered, breach)


def _finding(rendered: Rendered, breach: Breach) -> Finding:
    statement = rendered.statements[breach.statement]
    return Finding(
        rendered.revision,
        breach.rule.name,
        breach.rule.level,
        breach.reason,
        breach.rule.safe_form,
        file=rendered.file,
        file_line=statement.file_line,
        line=statement.line,
        statement=statement.sql,
    )


def _about(rendered: Rendered, rule: Rule, what: str) -> Finding:
    """Make a finding about the whole revision."""
    return Finding(
        rendered.revision,
        rule.name,
        rule.level,
        f"{what}: {rule.reason}",
        rule.safe_form,
        file=rendered.file,
    )


def _ignore(project: Project, rendered: Rendered, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Mark what the revision's ``lint_ignore`` names, and hold the declaration to its form."""
    script = project.scripts.get_revision(rendered.revision)
    declared = getattr(script.module, "lint_ignore", {})
    reasons: dict[str, str] = {}
    for rule, reason in (declared if isinstance(declared, dict) else {repr(declared): ""}).items():
        if isinstance(rule, str) and isinstance(reason, str) and reason.strip():
            reasons[rule] = reason.strip()
        else:
            what = f"lint_ignore names {rule} without a reason"
            yield _about(rendered, rules.IGNORE_WITHOUT_REASON, what)
    unused = dict(reasons)
    for finding in findings:
        unused.pop(finding.rule, None)
        yield replace(finding, ignored=reasons.get(finding.rule, ""))
    for rule in unused:
        yield _about(rendered, rules.IGNORE_UNUSED, f"lint_ignore names {rule}")
