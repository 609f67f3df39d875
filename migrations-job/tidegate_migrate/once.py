"""Runs each statement of an autocommit block once, through locks, failures and killed runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tidegate_migrate import boundary, passing
from tidegate_migrate.indexes import waits_without_blocking
from tidegate_migrate.leftovers import Leftovers
from tidegate_migrate.patience import Patience, is_about_a_lock, sqlstate
from tidegate_migrate.repeated import is_answered_already
from tidegate_migrate.resuming import Course
from tidegate_migrate.sent import Sent
from tidegate_migrate.timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class Once:
    """Runs the statements of one revision that stand alone.

    ``write`` writes into the journal how far the ``course`` has come. A statement queues for
    ``longest`` at most, in seconds; ``again`` waits for another try, and raises when there is no
    time for one.
    """

    revision: str
    course: Course
    write: Callable[[], None]
    leftovers: Leftovers
    timeouts: Timeouts
    statement_timeout: float
    longest: float
    patience: Callable[[], Patience]
    again: Callable[[Patience, str], None]
    say: Callable[[str], None]

    def run(self, sent: Sent) -> None:
        """Run a statement, or find it done.

        Raises:
            MigrateError: ``lock-timeout``: it did not get its locks; or the lock was lost.
            Exception: the driver's error; the course's, where its file is another one now.
        """
        course, known_by = self.course, sent.digest
        if course.is_done(known_by):
            passing.leave_out(sent)
            return
        course.begin(known_by)
        self.write()
        boundary.reached("autocommit statement begun")
        try:
            self._try(sent)
        except Exception as error:
            if not (course.in_doubt(known_by) and is_answered_already(sent.text, sqlstate(error))):
                course.failed()
                with suppress(Exception):  # where the connection broke, it stays in doubt
                    self.write()
                raise
            self.say(f"{self.revision}: the earlier run had finished {_head(sent.text)}")
            sent.answer_nothing()
        boundary.reached("autocommit statement ran")
        course.finished()
        self.write()
        boundary.reached("autocommit statement journaled")

    def _try(self, sent: Sent) -> None:
        patience = self.patience()
        # It waits for whoever came before it, and nobody waits for it.
        waits = waits_without_blocking(sent.text)
        while True:
            if waits:
                limits = (patience.left or 0.001, 0.0)
            else:
                limits = (min(patience.queue, self.longest), self.statement_timeout)
            try:
                with self.timeouts.within(*limits, whatever_it_set=waits):
                    return self.leftovers.run_among(sent.text, sent.execute, patience)
            except Exception as error:
                if not is_about_a_lock(error):
                    raise
                self.again(patience, self.revision)


def _head(text: str) -> str:
    """Return a statement's first words: enough to know it by, no values."""
    return " ".join(text.split()[:6])
