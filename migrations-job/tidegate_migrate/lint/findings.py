"""What the lint found, for people and for machines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tidegate_migrate.lint.rules import Level

_SHOWN_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of a revision against one rule.

    ``line`` counts in the rendered SQL, ``file_line`` in the revision's file; None where the
    finding is about the whole revision. ``reason`` says what the statement does and whom it
    hurts, ``safe_form`` what to write instead. ``ignored`` is the reason that the revision gives
    in its ``lint_ignore``, empty where it gives none.
    """

    revision: str
    rule: str
    level: Level
    reason: str
    safe_form: str
    file: str = ""
    file_line: int | None = None
    line: int | None = None
    statement: str = ""
    ignored: str = ""


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that stop a run."""
    return tuple(
        finding for finding in findings if finding.level is Level.ERROR and not finding.ignored
    )


def as_dicts(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the findings as plain data for JSON; the keys are :class:`Finding`'s fields."""
    return [asdict(finding) for finding in findings]


def describe(findings: Iterable[Finding]) -> str:
    """Return the findings as lines for a person, errors first; no text when there are none."""
    weights = {Level.ERROR: 0, Level.WARNING: 1}
    ordered = sorted(findings, key=lambda finding: (bool(finding.ignored), weights[finding.level]))
    return "\n".join(_describe(finding) for finding in ordered)


def _describe(finding: Finding) -> str:
    place = f"{Path(finding.file).name}:{finding.file_line or 1}" if finding.file else "lint"
    weight = "ignored" if finding.ignored else str(finding.level)
    lines = [f"{place}: {weight}: {finding.rule}", f"    {finding.reason}"]
    sql = finding.statement.splitlines()
    lines += [f"    | {line}" for line in sql[:_SHOWN_LINES]]
    if len(sql) > _SHOWN_LINES:
        lines.append(f"    | … {len(sql) - _SHOWN_LINES} more lines")
    lines.append(
        f"    ignored: {finding.ignored}" if finding.ignored else f"    safe: {finding.safe_form}"
    )
    return "\n".join(lines)
