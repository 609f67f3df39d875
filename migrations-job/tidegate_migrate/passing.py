"""Passes over statements of a revision that an earlier run has committed.

What holds for the session is done again, and what reads is read again. Text does not show whether
a function writes, nor what goes through the driver's own cursor. So PostgreSQL is told that nothing
may be written: whatever tries to has done so in the earlier run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidegate_migrate.kinds import settings_in
from tidegate_migrate.patience import sqlstate
from tidegate_migrate.session import verbatim

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tidegate_migrate.sent import Sent

TRANSACTION: Final = "SET TRANSACTION READ ONLY"
"""For the transaction that is open."""

BLOCK: Final = "SET default_transaction_read_only = on"
"""For statements that stand alone, up to ``BLOCK_ENDED``."""

BLOCK_ENDED: Final = "RESET default_transaction_read_only"

_READ_ONLY: Final = "25006"  # read_only_sql_transaction
# Classes of codes that are no answer to what a statement says: a connection that broke, a
# transaction that was in somebody's way, a resource that is short, a lock, an operator, a disk.
_ELSEWHERE: Final = ("08", "40", "53", "55", "57", "58")


def leave_out(sent: Sent, count: int | None = 0) -> None:
    """Send of a statement only what it sets for the session or the transaction.

    It answers with the row count that it had, ``None`` where nobody knows.
    """
    for setting in settings_in(sent.raw):
        sent.send(setting)
    sent.answer_nothing(count)


def read(sent: Sent, connection: sa.Connection, *, alone: bool) -> bool:
    """Read again what a revision may go by; False where that would have written, and did not.

    ``alone`` tells that the statement is in no transaction, which its error would end.
    """
    if not alone:
        verbatim(connection, "SAVEPOINT tidegate_reads")
    try:
        sent.execute()
    except Exception as error:
        if sqlstate(error) != _READ_ONLY:
            raise
        if not alone:
            verbatim(connection, "ROLLBACK TO SAVEPOINT tidegate_reads")
        sent.answer_nothing()
        return False
    if not alone:
        verbatim(connection, "RELEASE SAVEPOINT tidegate_reads")
    return True


def is_about_the_revision(error: Exception) -> bool:
    """Tell whether the error comes of what the revision says, and not of where it runs."""
    broken = getattr(error, "connection_invalidated", False)
    return not broken and not sqlstate(error).startswith(_ELSEWHERE)
