"""A plan as people read it, as a DBA gets it, and as a machine does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import indent
from typing import Any

from tidegate.schema import Failure, Phase
from tidegate_migrate.lint.findings import as_dicts, describe
from tidegate_migrate.linting import count
from tidegate_migrate.planning import PlannedStatement, Preview, Step, When
from tidegate_migrate.screen import Style, number


def text(preview: Preview, style: Style) -> str:
    """Return the plan for people, without a trailing line break."""
    return "\n".join(_lines(preview, style))


def _lines(preview: Preview, style: Style) -> Iterator[str]:
    report = preview.report
    yield style.lines(f"verdict {report.verdict}, database at {', '.join(report.heads) or 'none'}")
    for when in When:
        if steps := preview.of(when):
            yield f"\n{style('bold', _heading(when, steps))}"
            for step in steps:
                yield from _step(step, style)
    if not preview.steps:
        yield "nothing is pending"
    if preview.refusal:
        yield f"\n{style('red', 'up would refuse')}: {preview.refusal.message}"
        yield f"what to do: {preview.refusal.hint}"
    yield ""
    if preview.unlinted:
        yield "lint: not asked, since nobody uses an empty database (`lint --all` asks it)"
    elif preview.steps:
        yield f"lint: {count(preview.findings)}"
        if preview.findings:
            yield style.lines(describe(preview.findings))
    yield f"rollback now: {_safe(preview.needed_now)}"
    if preview.failure is Failure.LINT:
        yield "rollback after this run: not known while lint finds errors"
    elif preview.of(When.NOW) and preview.needed_after != preview.needed_now:
        yield style("yellow", f"rollback after this run: {_safe(preview.needed_after)}")
    elif preview.of(When.NOW) and report.heads:
        heads = " and ".join(report.heads)
        yield f"rollback after this run: the same; an image that ships only up to {heads} serves on"
    if preview.without_row:
        yield (
            f"the history has no row of {number(len(preview.without_row), 'applied revision')}, so "
            "no image is let behind them: `tidegate migrate stamp --adopt` writes the rows"
        )


def _heading(when: When, steps: Sequence[Step]) -> str:
    if when is When.NOW:
        return "now, by this run:"
    if when is When.REFUSED:
        return "refused by this run:"
    contract = all(step.revision.phase is Phase.CONTRACT for step in steps)
    return "later, by `tidegate migrate up --phase contract`:" if contract else "later:"


def _step(step: Step, style: Style) -> Iterator[str]:
    colour = "yellow" if step.revision.phase is Phase.CONTRACT else "green"
    words = f"  {step.words}" if step.words else ""
    yield f"  {style('bold', step.revision.id)} {style(colour, step.revision.phase)}{words}"
    for planned in step.statements:
        outside = "" if planned.statement.in_transaction else "  -- outside of a transaction"
        yield indent(f"{planned.statement.sql};{outside}", "      ")
        if locks := _locks(planned):
            yield style("dim", f"      -- {locks}")
    if step.missing:
        yield style("yellow", f"      -- there may be more, not shown offline: {step.missing}")
    if not step.statements and not step.missing:
        yield style("dim", "      -- no SQL")


def _locks(planned: PlannedStatement) -> str:
    if planned.locks is None:
        return "locks: not known"
    return f"locks: {', '.join(map(str, planned.locks))}" if planned.locks else ""


def _safe(needed: Sequence[str]) -> str:
    if not needed:
        return "safe to any older image"
    return f"safe only to images that ship {' and '.join(needed)}"


def sql(preview: Preview) -> str:
    """Return the SQL that this run would send, with each revision's transactions, for review.

    The rows that the runner writes beside it are left out.
    """
    lines: list[str] = []
    for step in preview.of(When.NOW):
        lines.append(
            f"-- revision {step.revision.id} ({step.revision.phase}) {step.words}".rstrip()
        )
        if step.missing:
            lines.append(
                f"-- there may be more, not shown offline: {' '.join(step.missing.split())}"
            )
        inside = False
        for planned in step.statements:
            if planned.statement.in_transaction is not inside:
                inside = not inside
                lines.append("BEGIN;" if inside else "COMMIT;")
            lines.append(f"{planned.statement.sql};")
        lines.append("COMMIT;\n" if inside else "")
    return "\n".join(lines).rstrip("\n")


def as_dict(preview: Preview) -> dict[str, Any]:
    """Return what ``plan --json`` has beside the report's fields."""
    refusal = preview.refusal
    return {
        "plan": [_step_as_dict(step) for step in preview.steps],
        "findings": as_dicts(preview.findings),
        "rollback": {"needs_now": preview.needed_now, "needs_after": preview.needed_after},
        "without_row": preview.without_row,
        "refusal": refusal
        and {
            "failure": refusal.failure,
            "revision": refusal.revision,
            "message": refusal.message,
            "hint": refusal.hint,
        },
    }


def _step_as_dict(step: Step) -> dict[str, Any]:
    return {
        "id": step.revision.id,
        "phase": step.revision.phase,
        "when": step.when,
        "words": step.words,
        "file": step.file,
        "statements": [
            {
                "sql": planned.statement.sql,
                "in_transaction": planned.statement.in_transaction,
                "file_line": planned.statement.file_line,
                "locks": None
                if planned.locks is None
                else [
                    {"table": lock.table, "mode": lock.mode.words, "waits": lock.mode.keeps_waiting}
                    for lock in planned.locks
                ],
            }
            for planned in step.statements
        ],
        "missing": step.missing,
    }
