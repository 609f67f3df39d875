"""Alembic's own statement that writes a revision's version writes its history row as well.

One statement for both: there is no moment between them, and a revision takes no round trip more
than with Alembic alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Insert, Update, event

from tidegate_migrate.patience import sqlstate

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_NOT_NULL_VIOLATION: Final = "23502"
_DOUBLE_PERCENTS: Final = {"format", "pyformat"}
"""The styles of parameters in which a driver reads a percent sign as the begin of one."""


class Recording:
    """Follows one migration context through its revisions, from version to version.

    ``row`` returns the statement that writes the row of the revision that runs; the server has to
    refuse it as NULL where it may not be written, and what ``refused`` returns is raised then.
    """

    def __init__(
        self, context: MigrationContext, row: Callable[[], str], refused: Callable[[], Exception]
    ) -> None:
        self._context = context
        self._row = row
        self._refused = refused
        self._due = False
        self._exec = context.impl._exec
        context.impl._exec = self._execute  # type: ignore[method-assign]
        event.listen(context.connection, "before_cursor_execute", self._send, retval=True)

    def _execute(self, construct: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        # An upgrade inserts a version or updates one, once; other branches' it may delete before.
        ours = isinstance(construct, Insert | Update) and construct.table is self._context._version
        if not ours:
            return self._exec(construct, *args, **options)
        self._due = True
        try:
            return self._exec(construct, *args, **options)
        except Exception as error:
            if sqlstate(error) == _NOT_NULL_VIOLATION:
                raise self._refused() from None
            raise
        finally:
            self._due = False

    def _send(
        self,
        _connection: object,
        _cursor: object,
        statement: str,
        parameters: Any,  # noqa: ANN401 - the driver's
        _context: object,
        _executemany: bool,
    ) -> tuple[str, Any]:
        if self._due:
            row = self._row()
            if self._context.dialect.paramstyle in _DOUBLE_PERCENTS:
                row = row.replace("%", "%%")
            statement = f"WITH recorded AS ({row}) {statement}"
        return statement, parameters
