"""The statements of a revision that stand alone: ``with op.get_context().autocommit_block()``.

Each is journaled before and after it ran, tried again by itself when a lock stops it, and passed
over by the next run when it is already done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event

from tidegate.schema import UNFINISHED_TABLE, Failure, Revision
from tidegate_migrate import boundary, journal
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.indexes import built_by, waits_without_blocking
from tidegate_migrate.journal import Unfinished
from tidegate_migrate.lock import lost
from tidegate_migrate.patience import Patience, is_about_a_lock, sqlstate
from tidegate_migrate.place import Place, literal
from tidegate_migrate.session import milliseconds

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.runtime.migration import MigrationContext

# What a statement answers that has been done before: the object is there, or gone, already.
_ALREADY: Final = {
    "42P07",  # duplicate_table, which an index is, too
    "42710",  # duplicate_object
    "42701",  # duplicate_column
    "42P01",  # undefined_table
    "42704",  # undefined_object
    "42703",  # undefined_column
}

# What may leave a setting of the session behind, a time-out among them; better one too many.
_SETS: Final = re.compile(r"\b(?:SET|RESET|DISCARD|set_config)\b", re.IGNORECASE)


class Statements:
    """Follows one migration context through its revisions, statement by statement.

    ``unfinished`` is what the journal held when the run began; ``prepare`` makes the journal's
    table when the first block is met; ``lock`` is the SQL condition that the migration lock is
    still held. ``lock_timeout`` holds outside of blocks; inside, a
    statement queues for ``longest`` at most. ``again`` waits for another try, if there is time.
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
        self._say = say
        self._revision: Revision | None = None
        self._statement_timeout = 0.0
        self._alone = False
        self.settings_touched = False
        if context.connection is not None:
            event.listen(context.connection, "before_cursor_execute", self._notice)
        self._block, self._exec = context.autocommit_block, context.impl._exec
        context.autocommit_block = self._autocommit_block  # type: ignore[method-assign]
        context.impl._exec = self._execute  # type: ignore[method-assign]

    @contextmanager
    def of(self, revision: Revision, statement_timeout: float) -> Iterator[None]:
        """Follow the statements of a revision while its ``upgrade()`` runs.

        Raises:
            MigrateError: ``migration-error``: an earlier run began it, and it has changed since,
                or may have been taken back.
        """
        self._revision = revision
        self._statement_timeout = statement_timeout
        self._earlier = self._unfinished.get(revision.id, Unfinished())
        self.journaled = revision.id in self._unfinished
        self.settings_touched = False
        self._position = 0
        self._hash = hashlib.sha256()
        self._passed: list[Any] = []
        if self._earlier.done:
            if self._earlier.stale:
                raise self._perhaps_undone(revision.id)
            self._say(
                f"{revision.id} was begun by an earlier run: "
                f"its first {self._earlier.done} statements are done and passed over"
            )
        try:
            yield
            if self._position < self._earlier.done:
                raise self._changed()
        finally:
            self._revision = None

    def _notice(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if self._revision and _SETS.search(statement):
            self.settings_touched = True

    def _execute(self, construct: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if self._revision is None:
            return self._exec(construct, *args, **options)
        self._passed.append(construct)
        self._position += 1
        if self._position <= self._earlier.done:
            if self._position == self._earlier.done and self._digest() != self._earlier.digest:
                raise self._changed()
            return None
        if not self._alone:
            return self._exec(construct, *args, **options)
        return self._execute_alone(construct, lambda: self._exec(construct, *args, **options))

    @contextmanager
    def _autocommit_block(self) -> Iterator[None]:
        if self._revision is None:
            with self._block():
                yield
            return
        self._prepare()
        if self._position > self._earlier.done or not self.journaled:
            # In the transaction that the block commits: it holds what was done so far.
            self._write(Unfinished(self._position, self._digest()))
        boundary.reached("autocommit block entered")
        with self._block():
            boundary.reached("autocommit block committed what was before it")
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
            self._set(self._lock_timeout, self._statement_timeout)

    def _execute_alone(self, construct: Any, execute: Callable[[], Any]) -> Any:  # noqa: ANN401
        text = self._text(construct)
        before = Unfinished(self._position - 1, *self._digests_around(text))
        in_doubt = self._earlier.begun == before.begun and not self._earlier.stale
        self._write(before)
        boundary.reached("autocommit statement begun")
        try:
            result = self._try(text, execute)
        except Exception as error:
            if not (in_doubt and sqlstate(error) in _ALREADY):
                with suppress(Exception):  # where the connection broke, it stays in doubt
                    self._write(Unfinished(before.done, before.digest))
                raise
            self._say(f"{self._name}: the earlier run had finished {_head(text)}")
            result = None
        boundary.reached("autocommit statement ran")
        self._write(Unfinished(self._position, before.begun))
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
                self._drop_invalid(text)
                return execute()
            except Exception as error:
                if not (is_about_a_lock(error) and self._again(patience, self._name)):
                    raise

    def _drop_invalid(self, text: str) -> None:
        """Drop what an earlier try has left of the index that the statement builds."""
        index = built_by(text)
        if index is None:
            return
        for (name,) in self._connection.exec_driver_sql(index.find_invalid()).all():
            self._say(f"{self._name}: dropping {name}, which an earlier try left INVALID")
            self._connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
            boundary.reached("invalid index dropped")

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
        noted = journal.write(self._connection, self._place, self._revision, entry, lock=self._lock)
        if not noted:
            raise lost(self._name)
        self.journaled = True

    def _set(self, lock_timeout: float, statement_timeout: float) -> None:
        for name, value in (
            ("lock_timeout", lock_timeout),
            ("statement_timeout", statement_timeout),
        ):
            self._connection.exec_driver_sql(f"SET {name} = {literal(milliseconds(value))}")

    def _text(self, construct: Any) -> str:  # noqa: ANN401 - a text, or SQLAlchemy's
        if isinstance(construct, str):
            return construct
        return str(construct.compile(dialect=self._context.dialect))

    def _digest(self) -> str:
        """Return the digest of all statements up to here; they are written out only for this."""
        for construct in self._passed:
            self._hash.update(self._text(construct).encode() + b"\0")
        self._passed.clear()
        return self._hash.hexdigest()

    def _digests_around(self, text: str) -> tuple[str, str]:
        """Return the digests without and with the statement that comes now, the last passed."""
        self._passed.pop()
        without = self._digest()
        self._hash.update(text.encode() + b"\0")
        return without, self._hash.hexdigest()

    def _changed(self) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {self._earlier.done} statements of revision "
            f"{self._name}, and its file no longer begins with them",
            hint="let its file begin as it did; or undo by hand what they did, and delete the "
            f"revision's row from {self._place.beside(UNFINISHED_TABLE)}",
            revision=self._name,
        )

    def _perhaps_undone(self, revision: str) -> MigrateError:
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"an earlier run has committed {self._earlier.done} statements of revision {revision}, "
            f"and {self._place} was written since by other means, so they may have been undone",
            hint="undo by hand what is left of them, delete the revision's row from "
            f"{self._place.beside(UNFINISHED_TABLE)}, and run this again",
            revision=revision,
        )


def _head(text: str) -> str:
    """Return a statement's first words: enough to know it by, no values."""
    return " ".join(text.split()[:6])
