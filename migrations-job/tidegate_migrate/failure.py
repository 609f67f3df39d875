"""Why a run stops: one exception, and the exit code of each reason."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from tidegate.schema import Failure

EXIT_CODES: Final = {
    Failure.MIGRATION_ERROR: 1,
    Failure.SETTINGS: 2,
    Failure.LOCK_TIMEOUT: 3,
    Failure.INCOMPATIBLE: 4,
    Failure.UNREACHABLE: 5,
    Failure.LINT: 6,
    Failure.TERMINATED: 143,
}
"""Every reason has a code of its own; the Job's podFailurePolicy reads them."""

NOTHING_TO_DO: Final = 10
"""With ``--detailed-exitcode`` only: for a Job, nothing to do is success."""


class MigrateError(Exception):
    """A run that cannot go on: the reason, what happened, and what to do about it."""

    def __init__(self, failure: Failure, message: str, *, hint: str, revision: str = "") -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message
        self.hint = hint
        self.revision = revision

    def __reduce__(self) -> tuple[Any, ...]:
        """Pass from one process to another."""
        make = partial(type(self), hint=self.hint, revision=self.revision)
        return make, (self.failure, self.message)
