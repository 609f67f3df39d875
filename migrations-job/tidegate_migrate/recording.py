"""Alembic's own statement that writes a revision's version writes its history row as well.

One statement for both: there is no moment between them, and a revision takes no round trip more
than with Alembic alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Insert, Update

from tidegate_migrate.patience import sqlstate
from tidegate_migrate.session import verbatim

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_NOT_NULL_VIOLATION: Final = "23502"
_INSERT: Final = "WITH recorded AS ({row}) INSERT INTO {versions} (version_num) VALUES ({revision})"
_UPDATE: Final = (
    "WITH recorded AS ({row}) UPDATE {versions} SET version_num = {revision} "
    "WHERE version_num = {below}"
)


class Recording:
    """Follows one migration context through its revisions, from version to version.

    ``versions`` is the version table's name as SQL writes it. ``row`` returns the literal of the
    revision that runs, and the statement that writes its row; the server has to refuse that as NULL
    where it may not be written, and what ``refused`` returns is raised then.
    """

    def __init__(
        self,
        context: MigrationContext,
        versions: str,
        row: Callable[[], tuple[str, str]],
        refused: Callable[[], Exception],
    ) -> None:
        self._context = context
        self._versions = versions
        self._row = row
        self._refused = refused
        self._exec = context.impl._exec
        context.impl._exec = self._execute  # type: ignore[method-assign]

    def _execute(self, construct: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        # An upgrade inserts a version or updates one, once; other branches' it may delete before.
        ours = isinstance(construct, Insert | Update) and construct.table is self._context._version
        if not ours or self._context.connection is None:
            return self._exec(construct, *args, **options)
        revision, row = self._row()
        # Written out: SQLAlchemy would compile it anew for each revision.
        if isinstance(construct, Insert):
            write = _INSERT.format(row=row, versions=self._versions, revision=revision)
        else:
            below: Any = construct.whereclause  # equal to a literal of Alembic's
            write = _UPDATE.format(
                row=row, versions=self._versions, revision=revision, below=below.right.name
            )
        try:
            return verbatim(self._context.connection, write)
        except Exception as error:
            if sqlstate(error) == _NOT_NULL_VIOLATION:
                raise self._refused() from None
            raise
