"""``tidegate migrate wait``: hold a new pod back until its image may serve on the schema."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from tidegate.schema import Failure, Outcome, Phase, Report, Verdict
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.looking import Opened, Say, opened
from tidegate_migrate.report import failed
from tidegate_migrate.settings import Settings

_EVERY: Final = 1.0  # seconds
_PASSING: Final = {Failure.UNREACHABLE, Failure.LOCK_TIMEOUT}  # what time may mend
GRACE: Final = 2.0  # seconds past the time-out, in which a server may still answer
_TOLD: Final = 3  # revisions that are named; the others are counted


def wait(settings: Settings, timeout: float, say: Say) -> Report:
    """Wait, up to ``timeout`` seconds, for a verdict that permits serving.

    A database that is away meanwhile is waited for as well. The report has failed where waiting
    does not help (``incompatible``), or the migration was not through in time (``lock-timeout``).

    Raises:
        MigrateError: ``unreachable``: there was no database in time; ``settings``.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = round(max(0.0, deadline - time.monotonic()), 1)
        try:
            with opened(replace(settings, connect_timeout=left), say) as at:
                # A pooler may give each statement another server connection.
                at.connection.prepare_threshold = None
                return _wait(settings, at, deadline, timeout, say)
        except MigrateError as error:
            if error.failure not in _PASSING or time.monotonic() >= deadline:
                raise
            say(f"waiting for the database: {error.message}")
            time.sleep(_EVERY)


def frozen(timeout: float) -> MigrateError:
    """What is to be said where a server neither answers nor ends the connection."""
    return MigrateError(
        Failure.UNREACHABLE,
        f"the database has not answered within {timeout + GRACE:g} s, nor ended the connection",
        hint="look whether it is frozen, or the network drops its packets; then start this again",
    )


def _wait(settings: Settings, at: Opened, deadline: float, timeout: float, say: Say) -> Report:
    told = ""
    while True:
        applied = at.read()
        report = at.report(applied, Outcome.DONE)
        if report.verdict.permits_serving:
            return report
        if report.verdict is not Verdict.BEHIND or report.ahead:
            try:
                at.plan(settings, applied)
            # The run of the migration Job would say no to the same, in these words.
            except MigrateError as error:
                return failed(error, report)
        lacking = _lacking(report)
        if time.monotonic() >= deadline:
            late = MigrateError(
                Failure.LOCK_TIMEOUT,
                f"after {timeout:g} s the database still lacks {lacking}",
                hint="look what the migration Job says (`kubectl logs job/...`), or run "
                "`tidegate migrate up`; then start this again, with a longer --timeout if need be",
            )
            return failed(late, report)
        if lacking != told:
            say(f"waiting up to {max(0.0, deadline - time.monotonic()):.0f} s for {lacking}")
            told = lacking
        time.sleep(min(_EVERY, max(0.0, deadline - time.monotonic())))


def _lacking(report: Report) -> str:
    names = [name for name, phase in report.pending.items() if phase is Phase.EXPAND]
    more = len(names) - _TOLD
    return f"revision {', '.join(names[:_TOLD])}" + (f" and {more} more" if more > 0 else "")
