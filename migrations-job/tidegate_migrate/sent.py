"""A statement in the moment it goes to the driver, whoever sent it, past ``op`` or by it.

SQLAlchemy's dialect events let it be run here instead: twice, later, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sqlalchemy import event

from tidegate_migrate.resuming import digest

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import ExceptionContext

_RETURNING: Final = re.compile(r"\bRETURNING\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement: its ``text`` as the server reads it, the values it is given.

    ``send`` sends a text in its place, written as the driver expects it: as ``raw`` is.
    """

    text: str
    raw: str
    values: Any
    send: Callable[[str], None]
    context: Any

    def execute(self) -> None:
        """Run the statement itself; the driver's errors pass as they are."""
        self.send(self.raw)

    @property
    def digest(self) -> str:
        """What the statement is known by."""
        return digest(self.text, self.values)

    @property
    def is_read_back(self) -> bool:
        """Whether the revision wants what the statement returns; SQLAlchemy asks by itself, too."""
        return not self._returns_a_key and _RETURNING.search(self.text) is not None

    def answer_nothing(self, count: int | None = 0) -> None:
        """Leave the cursor as it is behind a statement that has changed so many rows.

        Who reads rows nevertheless gets SQLAlchemy's error, and no wrong answer; who reads a
        count that is ``None``, an error as well.
        """
        self.context._rowcount = count or 0
        if count is None:
            self.context.__class__ = _without_count(type(self.context))
        if self._returns_a_key:
            self.send("SELECT NULL WHERE false")

    @property
    def _returns_a_key(self) -> bool:
        return bool(getattr(self.context.compiled, "implicit_returning", None))


def _without_count(of: type[Any]) -> type[Any]:
    def rowcount(_: object) -> NoReturn:
        raise LookupError("it reads how many rows a statement has changed that is passed over")

    return type(of.__name__, (of,), {"rowcount": property(rowcount)})


def listen(
    connection: sa.Connection,
    handle: Callable[[Sent], bool],
    note_count: Callable[[int], None],
    note_failure: Callable[[Exception, str], None],
) -> None:
    """Show ``handle`` each statement of the connection; it returns whether that is dealt with.

    ``note_count`` is told how many rows one has changed, as soon as it ran. ``note_failure`` is
    shown what comes of one that fails, with its text, before it is raised.
    """
    dialect = connection.dialect
    doubles_percents = dialect.paramstyle in {"format", "pyformat"}

    def execute(cursor: Any, raw: str, values: Any, context: Any) -> bool:  # noqa: ANN401
        def send(text: str) -> None:
            given = values if text is raw else type(values)()  # what stands for it has none
            dialect.do_execute(cursor, text, given, context)

        return met(raw, values, context, send, doubled=doubles_percents)

    def execute_many(cursor: Any, raw: str, values: Any, context: Any) -> bool:  # noqa: ANN401
        def send(text: str) -> None:
            dialect.do_executemany(cursor, text, values, context)

        return met(raw, values, context, send, doubled=doubles_percents)

    def execute_plain(cursor: Any, raw: str, context: Any) -> bool:  # noqa: ANN401
        def send(text: str) -> None:
            dialect.do_execute_no_params(cursor, text, context)

        return met(raw, None, context, send, doubled=False)

    def met(
        raw: str,
        values: Any,  # noqa: ANN401 - the driver's
        context: Any,  # noqa: ANN401 - SQLAlchemy's
        send: Callable[[str], None],
        *,
        doubled: bool,
    ) -> bool:
        if context.root_connection is not connection:
            return False
        text = raw.replace("%%", "%") if doubled else raw
        # As the revision gave them, before they were made ready for the driver.
        given = getattr(context, "compiled_parameters", None) or values
        return handle(Sent(text, raw, given, send, context))

    def failed(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        if context.connection is connection and isinstance(error, Exception):
            note_failure(error, context.statement or "")

    def ran(_: object, cursor: Any, *__: object) -> None:  # noqa: ANN401 - the driver's
        note_count(cursor.rowcount)

    event.listen(connection, "after_cursor_execute", ran)
    event.listen(connection.engine, "handle_error", failed)
    for name, listener in (
        ("do_execute", execute),
        ("do_executemany", execute_many),
        ("do_execute_no_params", execute_plain),
    ):
        event.listen(connection.engine, name, listener)
