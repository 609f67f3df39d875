"""Lint before run: what would break or block those who are there is not applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tidegate.schema import Failure, Manifest, Phase
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lint.findings import Finding, describe, errors
from tidegate_migrate.lint.rules import RULES, Concern

_NOBODY: Final = "no older image runs (--nobody-runs-older)"


def refuse_unsafe(
    manifest: Manifest,
    findings: tuple[Finding, ...],
    say: Callable[[str], None],
    *,
    nobody_runs_older: bool,
) -> Manifest:
    """Say what lint has found in the revisions that are to run next, and refuse an error.

    Returns the phases as the history is to know them, see :func:`excused_as_contract`.

    Raises:
        MigrateError: ``lint``, naming the first error.
    """
    if nobody_runs_older:
        findings = excuse(manifest, findings)
    if findings:
        say(describe(findings))
    if stopping := refusal(findings):
        raise stopping
    return excused_as_contract(manifest, findings)


def excuse(manifest: Manifest, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings, with those excused that can hurt nobody where no older image runs.

    Those are the errors of expand revisions: while one is pending, this image does not serve
    either. What would fail the run itself stays, and so does what a contract revision locks.
    """
    return tuple(
        replace(finding, ignored=_NOBODY)
        if not finding.ignored
        and errors([finding])
        and _concern(finding) is not Concern.RUN
        and manifest.revisions[finding.revision].phase is Phase.EXPAND
        else finding
        for finding in findings
    )


def excused_as_contract(manifest: Manifest, findings: Iterable[Finding]) -> Manifest:
    """Return the manifest where a revision that breaks images, and was excused, is a contract one.

    That is what its row has to say: no image from before it may be rolled back to.
    """
    breaking = {
        finding.revision
        for finding in findings
        if finding.ignored == _NOBODY and _concern(finding) is Concern.IMAGES
    }
    phases = {
        name: replace(revision, phase=Phase.CONTRACT) if name in breaking else revision
        for name, revision in manifest.revisions.items()
    }
    return replace(manifest, revisions=phases)


def _way_for_old(finding: Finding) -> str:
    if _concern(finding) is Concern.RUN:
        return ""
    return "; or, for expand revisions and with the service stopped, run with --nobody-runs-older"


def _concern(finding: Finding) -> Concern:
    """Return whom the finding is about; squawk's rules are all about locks."""
    rule = RULES.get(finding.rule)
    return rule.concern if rule else Concern.LOCKS


def refusal(findings: Iterable[Finding]) -> MigrateError | None:
    """Return what a run would be refused with: the first error, and how many there are."""
    stopping = errors(findings)
    if not stopping:
        return None
    finding, others = stopping[0], len(stopping) - 1
    place = f"{Path(finding.file).name}:{finding.file_line or 1}: " if finding.file else ""
    more = f" (and {others} more)" if others else ""
    return MigrateError(
        Failure.LINT,
        f"{place}{finding.rule}: {finding.reason}{more}",
        hint=f"{finding.safe_form}; or give a reason in the revision's file: "
        f'lint_ignore = {{"{finding.rule}": "..."}}{_way_for_old(finding)}',
        revision=finding.revision,
    )
