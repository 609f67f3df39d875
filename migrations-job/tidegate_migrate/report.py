"""Where a report goes: the container's termination message, and the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tidegate.schema import Outcome, Report, Verdict
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.screen import Style

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where Kubernetes reads a container's termination message, unless the pod says otherwise."""

_LISTED: Final = 12  # revisions that a person is told by name


def failed(error: MigrateError, seen: Report | None = None) -> Report:
    """Report a failure; ``seen`` is what could still be read of the database."""
    return replace(
        seen or Report(Outcome.FAILED, Verdict.UNKNOWN),
        outcome=Outcome.FAILED,
        failure=error.failure,
        revision=error.revision,
        message=error.message,
        hint=error.hint,
    )


def deliver(report: Report, path: Path | None, *, as_json: bool, what: str = "migration") -> None:
    """Write the report to ``path`` (default: the termination log, where there is one), print it."""
    if path is None and TERMINATION_LOG.exists():
        path = TERMINATION_LOG
    if path is not None:
        try:
            path.write_text(report.to_json(Report.LIMIT), encoding="utf-8")
        except OSError as error:  # what was done is done: say it, and keep the exit code
            print(f"the report could not be written to {path}: {error.strerror}", file=sys.stderr)
    show(report, as_json=as_json, what=what)


def show(report: Report, *, as_json: bool, what: str = "migration") -> None:
    """Print the report: one line of JSON, as the container's is, or a few lines for a person."""
    if as_json:
        print(report.to_json(Report.LIMIT))
    elif report.failure:
        tell_failure(f"{what} failed ({report.failure})", report.message, report.hint)
    else:
        for line in standing(report):
            print(Style(sys.stdout).lines(line))


def as_json(report: Report, **beside: object) -> str:
    """Return the report as one line of JSON, with what a command has to say beside it."""
    return json.dumps({**json.loads(report.to_json()), **beside}, default=str)


def tell_failure(what: str, message: str, hint: str) -> None:
    """Tell a person, on stderr, what happened and what to do."""
    print(Style(sys.stderr).lines(f"{what}: {message}"), file=sys.stderr)
    print(f"what to do: {hint}", file=sys.stderr)


def standing(report: Report) -> Iterator[str]:
    """Say where a database stands. Pure."""
    yield f"verdict {report.verdict}, database at {', '.join(report.heads) or 'none'}"
    for title, names in (("pending", report.pending), ("ahead", report.ahead)):
        if names:
            listed = [f"{name} ({phase or '?'})" for name, phase in names.items()]
            more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
            yield f"{title}: {', '.join(listed[:_LISTED])}{more}"
