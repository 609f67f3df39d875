"""Where a report goes: the container's termination message, and the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from tidegate.schema import Outcome, Report, Verdict
from tidegate_migrate.failure import MigrateError

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where Kubernetes reads a container's termination message, unless the pod says otherwise."""


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


def deliver(report: Report, path: Path | None, *, as_json: bool) -> None:
    """Write the report to ``path`` (default: the termination log, where there is one), print it."""
    if path is None and TERMINATION_LOG.exists():
        path = TERMINATION_LOG
    if path is not None:
        try:
            path.write_text(report.to_json(Report.LIMIT), encoding="utf-8")
        except OSError as error:  # what was done is done: say it, and keep the exit code
            print(f"the report could not be written to {path}: {error.strerror}", file=sys.stderr)
    show(report, as_json=as_json)


def show(report: Report, *, as_json: bool) -> None:
    """Print the report: one line of JSON for a machine, a few lines for a person."""
    if as_json:
        print(report.to_json())
    elif report.failure:
        print(f"migration failed ({report.failure}): {report.message}", file=sys.stderr)
        print(f"what to do: {report.hint}", file=sys.stderr)
    else:
        heads = ", ".join(report.heads) or "none"
        print(f"verdict {report.verdict}, database at {heads}")
        for title, names in (("pending", report.pending), ("ahead", report.ahead)):
            if names:
                listed = ", ".join(f"{name} ({phase or '?'})" for name, phase in names.items())
                print(f"{title}: {listed}")
