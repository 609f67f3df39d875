"""The statements of a revision, above all in ``with op.get_context().autocommit_block()``.

There each stands alone: it is journaled before and after it ran, tried again by itself when a lock
stops it, and passed over by the next run when it is already done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event

from tidegate.schema import UNFINISHED_TABLE, Failure, Revision
from tidegate_migrate import boundary, journal, passing
from tidegate_migrate.explain import in_words
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.journal import Unfinished
from tidegate_migrate.kinds import (
    changes_objects,
    has_nowait,
    is_read,
    is_savepoint,
    is_setting,
    locks_rows,
    makes_temporary,
)
from tidegate_migrate.leftovers import Leftovers
from tidegate_migrate.lock import lost
from tidegate_migrate.once import Once
from tidegate_migrate.patience import LOCK_NOT_AVAILABLE, QUERY_CANCELED, Patience, sqlstate
from tidegate_migrate.place import Place
from tidegate_migrate.resuming import Course
from tidegate_migrate.sent import Sent, listen
from tidegate_migrate.session import verbatim
from tidegate_migrate.timeouts import Timeouts

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.runtime.migration import MigrationContext

# A transaction that has written nothing has no number: not even a function can do so without one.
_HAS_WRITTEN: Final = "SELECT txid_current_if_assigned() IS NOT NULL"


class Statements:
    """Follows one migration context through its revisions, statement by statement.

    ``unfinished`` is what the journal held when the run began; ``prepare`` makes the journal's
    table when the first block is met; ``lock`` is the SQL condition that the migration lock is
    still held. ``lock_timeout`` holds outside of blocks; inside, a statement queues for ``longest``
    at most. ``again`` waits for another try, and raises when there is no time for one.
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
        again: Callable[[Patience, str], None],
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
        self._timeouts = Timeouts(self._query)
        self._in_block = self._alone = False
        self._by_op = False
        self._ours = False
        self._first = True
        self._wrote_before = False
        self._stopped_by: Exception | None = None
        self._counted = ""
        if context.connection is not None:
            listen(context.connection, self._meet, self._note_count, self._note_failure)
            for end in ("commit", "rollback"):
                event.listen(context.connection, end, partial(self._refuse_to_end, end))
        self._block, self._exec = context.autocommit_block, context.impl._exec
        context.autocommit_block = self._autocommit_block  # type: ignore[method-assign]
        context.impl._exec = self._execute  # type: ignore[method-assign]

    @property
    def settings_touched(self) -> bool:
        """Whether the last revision may have left a setting of the session behind."""
        return self._timeouts.touched

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
        self._stopped_by = None
        self._timeouts.hold(self._lock_timeout, statement_timeout)
        # Alembic makes the version table in the first one's transaction.
        self._wrote_before = self._first and self._has_written()
        self._first = False
        earlier = self._unfinished.get(revision.id, Unfinished())
        self.journaled = revision.id in self._unfinished
        self._done = earlier.done
        self._lost_temporary = False
        self._course = Course(earlier, checksum, changed=self._changed)
        self._once = Once(
            revision.id,
            self._course,
            write=self._write,
            leftovers=Leftovers(self._query, self._say, revision.id),
            timeouts=self._timeouts,
            statement_timeout=statement_timeout,
            longest=self._longest,
            patience=self._patience,
            again=self._again,
            say=self._say,
        )
        try:
            if self._course.passing:
                if earlier.stale:
                    raise self._perhaps_undone()
                self._say(
                    f"{revision.id} was begun by an earlier run: "
                    f"its first {earlier.done} statements are done and passed over"
                )
                self._query(passing.TRANSACTION)
            yield
            if self._stopped_by:
                raise self._stopped_by
            self._course.finish()
        except MigrateError:
            raise
        except Exception as error:
            again = self._course.passing or self._lost_temporary
            if again and passing.is_about_the_revision(error):
                raise self._changed(f"it fails now: {in_words(error, self._url)}") from error
            raise
        finally:
            self._revision = None

    def _execute(self, construct: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Tell what ``op`` sends, whose answer nobody sees, from what is sent past it."""
        before, self._by_op = self._by_op, True
        try:
            return self._exec(construct, *args, **options)
        finally:
            self._by_op = before

    def _meet(self, sent: Sent) -> bool:
        """Deal with a statement; False leaves it to the driver."""
        if self._revision is None or self._ours:
            return False
        self._timeouts.met(sent.text)
        if is_savepoint(sent.text):
            return False
        if self._stopped_by:
            raise self._stopped_by
        if self._by_op:
            self._course.met(sent.text)
        if (self._course.passing or (self._done and self._alone)) and makes_temporary(sent.text):
            self._lost_temporary = True
        self._counted = "" if self._by_op or is_read(sent.text) else sent.text
        with self._apart():
            if self._course.passing:
                return self._pass(sent)
            if self._alone:
                return self._stand_alone(sent)
        if not (is_setting(sent.text) if self._by_op else is_read(sent.text)):
            self._course.count()
        return False

    def _refuse_to_end(self, how: str, _: object) -> None:
        """Let no revision end the transaction that holds its version and its row as well."""
        if self._revision is not None and not self._in_block:
            self._stopped_by = self._ends_its_transaction(how)
            raise self._stopped_by

    def _note_count(self, rows: int) -> None:
        """Take note of what a revision may go by that has sent a statement past ``op``."""
        if self._revision is not None and self._counted and not self._ours:
            self._course.counts.note(self._counted, rows)
            self._counted = ""

    def _note_failure(self, error: Exception, text: str) -> None:
        """Take note of what only the runner brings about, and a revision may take for its own.

        Left out because a reader stood in its way for a moment, a statement would be missing for
        ever; so the revision comes to no end then, though it catches the error.
        """
        if self._revision is None or self._ours:
            return
        if isinstance(error, MigrateError) or (
            sqlstate(error) in {LOCK_NOT_AVAILABLE, QUERY_CANCELED}
            and not self._timeouts.has_its_own
            and not has_nowait(text)
        ):
            self._stopped_by = error

    def _pass(self, sent: Sent) -> bool:
        if is_setting(sent.text):
            return False
        asks = is_read(sent.text) and not self._by_op
        if asks and locks_rows(sent.text):
            raise self._changed("it locks rows to read them, which were read and changed then")
        if asks and passing.read(sent, self._connection, alone=self._alone):
            return True
        if self._alone:
            self._course.pass_over(sent.digest)
        if not asks:
            if sent.is_read_back and not self._by_op:
                raise self._changed("it reads now what one of them returned")
            count = self._course.counts.again(self._counted) if self._counted else 0
            self._counted = ""
            passing.leave_out(sent, count)
        return True

    def _stand_alone(self, sent: Sent) -> bool:
        if is_setting(sent.text):
            return False
        if self._by_op or changes_objects(sent.text):
            self._once.run(sent)
            return True
        self._course.ran(sent.digest, counts=not is_read(sent.text))
        return False

    @contextmanager
    def _autocommit_block(self) -> Iterator[None]:
        if self._revision is None:
            with self._block():
                yield
            return
        try:
            with self._journaled_block():
                yield
        except MigrateError as error:
            self._stopped_by = error  # though the revision may catch it
            raise

    @contextmanager
    def _journaled_block(self) -> Iterator[None]:
        self._prepare()
        wrote = None if self._wrote_before else self._has_written()
        self._wrote_before = False
        self._course.end_transaction(wrote=wrote)
        self._write_where_new()  # in the transaction that the block commits
        boundary.reached("autocommit block entered")
        self._in_block = True
        try:
            with self._block():
                boundary.reached("autocommit block committed what was before it")
                try:
                    with self._each_alone():
                        yield
                except BaseException:
                    self._course.end_block(failed=True)  # the revision may catch this, and go on
                    raise
                self._course.end_block()
                self._write_where_new()
        finally:
            self._in_block = False
        if self._course.passing:
            self._query(passing.TRANSACTION)
        else:
            self._after_block()

    @contextmanager
    def _each_alone(self) -> Iterator[None]:
        read_only = self._course.passing
        if read_only:
            self._query(passing.BLOCK)
        self._alone = True
        try:
            yield
        finally:
            self._alone = False
            if read_only:
                with suppress(Exception):  # where the connection broke
                    self._query(passing.BLOCK_ENDED)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Tell what the runner itself sends from what a revision sends."""
        before, self._ours = self._ours, True
        try:
            yield
        finally:
            self._ours = before

    def _has_written(self) -> bool:
        return bool(self._query(_HAS_WRITTEN)[0][0])

    def _query(self, sql: str) -> Sequence[Any]:
        with self._apart():
            result = verbatim(self._connection, sql)
            return result.all() if result.returns_rows else ()

    @property
    def _connection(self) -> sa.Connection:
        connection = self._context.connection
        if connection is None:
            raise RuntimeError("Alembic runs a revision without a connection")
        return connection

    @property
    def _url(self) -> str:
        return self._connection.engine.url.render_as_string(hide_password=False)

    @property
    def _name(self) -> str:
        return self._revision.id if self._revision else ""

    def _write_where_new(self) -> None:
        if self._course.is_new:
            self._write()

    def _write(self) -> None:
        if self._revision is None:
            raise RuntimeError("a statement is noted that belongs to no revision")
        entry = self._course.entry()
        with self._apart():
            noted = journal.write(
                self._connection, self._place, self._revision, entry, lock=self._lock
            )
        if not noted:
            raise lost(self._name)
        self.journaled = True

    def _changed(self, how: str) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {self._done} statements of revision {self._name}, "
            f"and {how}",
            hint="let it begin as it did; or undo by hand what they did, unless it looks for that "
            "itself, and delete the revision's row from "
            f"{self._place.beside(UNFINISHED_TABLE)}",
            revision=self._name,
        )

    def _ends_its_transaction(self, how: str) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"revision {self._name} ends its own transaction ({how}() of its connection), which "
            "holds its version and its history row as well",
            hint="leave that out; for what must stand alone there is "
            "`with op.get_context().autocommit_block():`",
            revision=self._name,
        )

    def _perhaps_undone(self) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {self._done} statements of revision {self._name}, "
            f"and {self._place} was written since by other means, so they may have been undone",
            hint="undo by hand what is left of them, delete the revision's row from "
            f"{self._place.beside(UNFINISHED_TABLE)}, and run this again",
            revision=self._name,
        )
