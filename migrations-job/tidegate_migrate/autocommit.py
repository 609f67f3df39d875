"""The statements of a revision, above all in ``with op.get_context().autocommit_block()``.

There each stands alone: it is journaled before and after it ran, tried again by itself when a lock
stops it, and passed over by the next run when it is already done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event

from tidegate.schema import UNFINISHED_TABLE, Failure, Revision
from tidegate_migrate import boundary, journal
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.indexes import invalid_after, invalid_before, waits_without_blocking
from tidegate_migrate.journal import Unfinished
from tidegate_migrate.lock import lost
from tidegate_migrate.patience import Patience, is_about_a_lock, sqlstate
from tidegate_migrate.place import Place, literal
from tidegate_migrate.repeated import detached_by, is_answered_already
from tidegate_migrate.resuming import Course, digest, is_read, is_setting
from tidegate_migrate.session import milliseconds, verbatim

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.runtime.migration import MigrationContext

# What may leave a setting of the session behind, a time-out among them; better one too many.
_SETS: Final = re.compile(r"\b(?:SET|RESET|DISCARD|set_config)\b", re.IGNORECASE)

_RETURNS: Final = re.compile(r"\bRETURNING\b", re.IGNORECASE)
# Sent in the place of a statement that is done: it changes nothing, and returns no rows either.
_NOTHING: Final = "SET LOCAL tidegate.passed_over = ''"


class Statements:
    """Follows one migration context through its revisions, statement by statement.

    ``unfinished`` is what the journal held when the run began; ``prepare`` makes the journal's
    table when the first block is met; ``lock`` is the SQL condition that the migration lock is
    still held. ``lock_timeout`` holds outside of blocks; inside, a statement queues for ``longest``
    at most. ``again`` waits for another try, if there is time.
    ``after_block`` is asked whether to go on when a block has ended: it may have taken long.
    """

    def __init__(
        self,
        context: MigrationContext,
        place: Place,
        unfinished: Mapping[str, Unfinished],
        *,
        prepare: Callable[[], None],
        lock: str,
        patience: Callable[[], Patience],
        again: Callable[[Patience, str], bool],
        lock_timeout: float,
        longest: float,
        after_block: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._context = context
        self._place = place
        self._unfinished = unfinished
        self._prepare = prepare
        self._lock = lock
        self._patience = patience
        self._again = again
        self._lock_timeout = lock_timeout
        self._longest = longest
        self._after_block = after_block
        self._say = say
        self._revision: Revision | None = None
        self._statement_timeout = 0.0
        self._alone = False
        self._by_op = False
        self.settings_touched = False
        if context.connection is not None:
            event.listen(context.connection, "before_cursor_execute", self._send, retval=True)
        self._block, self._exec = context.autocommit_block, context.impl._exec
        context.autocommit_block = self._autocommit_block  # type: ignore[method-assign]
        context.impl._exec = self._execute  # type: ignore[method-assign]

    @contextmanager
    def of(
        self, revision: Revision, checksum: Callable[[], str], statement_timeout: float
    ) -> Iterator[None]:
        """Follow the statements of a revision while its ``upgrade()`` runs.

        ``checksum`` is asked for that of its file.

        Raises:
            MigrateError: ``migration-error``: an earlier run began it, and it has changed since,
                or may have been taken back.
        """
        self._revision = revision
        self._statement_timeout = statement_timeout
        earlier = self._unfinished.get(revision.id, Unfinished())
        self.journaled = revision.id in self._unfinished
        self.settings_touched = False
        self._course = Course(
            earlier,
            checksum,
            text=self._text,
            changed=lambda how: self._changed(earlier.done, how),
        )
        try:
            if earlier.done:
                if earlier.stale:
                    raise self._perhaps_undone(earlier.done)
                self._say(
                    f"{revision.id} was begun by an earlier run: "
                    f"its first {earlier.done} statements are done and passed over"
                )
            yield
            self._course.finish()
        finally:
            self._revision = None

    def _send(
        self,
        _connection: object,
        _cursor: object,
        statement: str,
        parameters: Any,  # noqa: ANN401 - the driver's
        _context: object,
        executemany: bool,
    ) -> tuple[str, Any]:
        """Let a statement through to the driver, or what stands for one that is done already."""
        if self._revision is None:
            return statement, parameters
        if _SETS.search(statement):
            self.settings_touched = True
        if self._by_op or is_read(statement):
            return statement, parameters
        if not self._course.passing:
            self._course.done += 1
            return statement, parameters
        if _RETURNS.search(statement):
            raise self._changed(self._course.done, "it reads now what one of them returned")
        return _NOTHING, ([] if executemany else ())

    def _execute(self, construct: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if self._revision is None:
            return self._exec(construct, *args, **options)
        course = self._course
        course.met(construct)
        with self._ours():
            if course.passing:
                if not is_setting(self._text(construct)):
                    return None
            elif self._alone:
                return self._execute_alone(
                    construct, lambda: self._exec(construct, *args, **options)
                )
            else:
                course.done += 1
            return self._exec(construct, *args, **options)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """Tell what ``op`` and the runner itself send from what a revision sends past them."""
        before, self._by_op = self._by_op, True
        try:
            yield
        finally:
            self._by_op = before

    @contextmanager
    def _autocommit_block(self) -> Iterator[None]:
        if self._revision is None:
            with self._block():
                yield
            return
        self._prepare()
        self._next_part()  # in the transaction that the block commits
        boundary.reached("autocommit block entered")
        with self._block():
            boundary.reached("autocommit block committed what was before it")
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
            self._next_part()
            self._set(self._lock_timeout, self._statement_timeout)
        if not self._course.passing:
            self._after_block()

    def _next_part(self) -> None:
        self._course.next_part()
        if self._course.is_new:
            self._write(self._course.entry())

    def _execute_alone(self, construct: Any, execute: Callable[[], Any]) -> Any:  # noqa: ANN401
        course, text = self._course, self._text(construct)
        known_by = digest(text)
        if course.is_done(known_by):
            return None
        self._write(course.entry(known_by))
        boundary.reached("autocommit statement begun")
        try:
            result = self._try(text, execute)
        except Exception as error:
            if not (course.in_doubt(known_by) and is_answered_already(text, sqlstate(error))):
                with suppress(Exception):  # where the connection broke, it stays in doubt
                    self._write(course.entry())
                raise
            self._say(f"{self._name}: the earlier run had finished {_head(text)}")
            result = None
        boundary.reached("autocommit statement ran")
        course.finished(known_by)
        self._write(course.entry())
        boundary.reached("autocommit statement journaled")
        return result

    def _try(self, text: str, execute: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return self._try_again(text, execute)
        finally:
            with suppress(Exception):  # where the connection broke
                # What is sent past `op` comes with the time-outs that hold outside.
                self._set(self._lock_timeout, self._statement_timeout)

    def _try_again(self, text: str, execute: Callable[[], Any]) -> Any:  # noqa: ANN401
        patience = self._patience()
        while True:
            try:
                if waits_without_blocking(text):
                    # It waits for whoever came before it, and nobody waits for it.
                    self._set(patience.left or 0.001, 0)
                else:
                    self._set(min(patience.queue, self._longest), self._statement_timeout)
                return self._run_among_leftovers(text, execute)
            except Exception as error:
                if not (is_about_a_lock(error) and self._again(patience, self._name)):
                    raise

    def _run_among_leftovers(self, text: str, execute: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Run a statement, and put away what earlier tries of it have left half-done."""
        if (detachment := detached_by(text)) and self._rows(detachment.find_pending()):
            self._say(f"{self._name}: finishing what an earlier try has left half-detached")
            return verbatim(self._connection, detachment.finalize())
        self._drop(invalid_before(text))
        result = execute()
        with suppress(Exception):  # it is done, and must not be done again for what it leaves
            self._drop(invalid_after(text))
        return result

    def _drop(self, invalid: str) -> None:
        for (name,) in self._rows(invalid) if invalid else ():
            self._say(f"{self._name}: dropping {name}, which an earlier try left INVALID")
            verbatim(self._connection, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            boundary.reached("invalid index dropped")

    def _rows(self, query: str) -> Sequence[Any]:
        return verbatim(self._connection, query).all()

    @property
    def _connection(self) -> sa.Connection:
        connection = self._context.connection
        if connection is None:
            raise RuntimeError("Alembic runs a revision without a connection")
        return connection

    @property
    def _name(self) -> str:
        return self._revision.id if self._revision else ""

    def _write(self, entry: Unfinished) -> None:
        if self._revision is None:
            raise RuntimeError("a statement is noted that belongs to no revision")
        with self._ours():
            noted = journal.write(
                self._connection, self._place, self._revision, entry, lock=self._lock
            )
        if not noted:
            raise lost(self._name)
        self.journaled = True

    def _set(self, lock_timeout: float, statement_timeout: float) -> None:
        for name, value in (
            ("lock_timeout", lock_timeout),
            ("statement_timeout", statement_timeout),
        ):
            verbatim(self._connection, f"SET {name} = {literal(milliseconds(value))}")

    def _text(self, construct: Any) -> str:  # noqa: ANN401 - a text, or SQLAlchemy's
        if isinstance(construct, str):
            return construct
        return str(construct.compile(dialect=self._context.dialect))

    def _changed(self, done: int, how: str) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {done} statements of revision {self._name}, and {how}",
            hint="let it begin as it did; or undo by hand what they did, and delete the "
            f"revision's row from {self._place.beside(UNFINISHED_TABLE)}",
            revision=self._name,
        )

    def _perhaps_undone(self, done: int) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {done} statements of revision {self._name}, "
            f"and {self._place} was written since by other means, so they may have been undone",
            hint="undo by hand what is left of them, delete the revision's row from "
            f"{self._place.beside(UNFINISHED_TABLE)}, and run this again",
            revision=self._name,
        )


def _head(text: str) -> str:
    """Return a statement's first words: enough to know it by, no values."""
    return " ".join(text.split()[:6])
