"""What the runner sets on the connection that env.py has made, so that a migration stops nobody."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tidegate_migrate.lock import MIGRATING
from tidegate_migrate.place import literal

if TYPE_CHECKING:
    import sqlalchemy as sa

# A revision that thinks for longer, between two statements, holds its locks meanwhile.
_IDLE: Final = "60s"
# A backend whose runner was killed ends its statement within this time, and lets go of its locks.
_CLIENT_CHECK: Final = "1s"

_SET: Final = """
SELECT set_config(name, value, false), set_config('tidegate.transaction', 'open', true)
FROM (VALUES {wanted}) AS wanted (name, value) JOIN pg_settings USING (name)
"""
# What is set for a transaction is gone in the next statement where there is none.
_LOOK: Final = """
SELECT pg_backend_pid(), {lock},
  coalesce(current_setting('tidegate.transaction', true), '') = 'open'
"""


@dataclass(frozen=True, slots=True)
class Session:
    """The connection as its server sees it: its backend, and whether that sees the lock held.

    ``in_transactions`` tells whether statements in a transaction of SQLAlchemy's are in one.
    """

    backend: int
    held: bool
    in_transactions: bool


def initial(*, host: str, lock_timeout: float, statement_timeout: float) -> dict[str, str]:
    """Return the settings of a migrating connection. Time-outs are in seconds, 0 means none."""
    return {
        "application_name": f"{MIGRATING} on {host}"[:63],
        "lock_timeout": milliseconds(lock_timeout),
        "statement_timeout": milliseconds(statement_timeout),
        "idle_in_transaction_session_timeout": _IDLE,
        # A role may have these for the sake of the service, from PostgreSQL 17 and from 14 on. The
        # connection is idle where a block computes, or waits for its backfill.
        "transaction_timeout": "0",
        "idle_session_timeout": "0",
        "client_connection_check_interval": _CLIENT_CHECK,
        # A server that crashes may lose the last revisions whole, never a part of one: what is
        # said to be done at the end has to be on disk, and one revision there brings all before.
        "synchronous_commit": "off",
    }


LAST: Final = "RESET synchronous_commit"
"""What is set for the last revision: its commit waits until everything is on disk."""


def milliseconds(seconds: float) -> str:
    """Write seconds as PostgreSQL reads a time-out; what is not 0 stays above it."""
    return f"{max(1, round(seconds * 1000))}ms" if seconds else "0"


def introduce(connection: sa.Connection, values: Mapping[str, str], lock: str) -> Session:
    """Set the values for the session, and look at it.

    The connection stays as it was found: outside of a transaction, or in the one of env.py.
    ``lock`` is a condition in SQL.
    """
    own = nullcontext() if connection.in_transaction() else connection.begin()
    with own:
        apply(connection, values)
        backend, held, open_ = connection.exec_driver_sql(_LOOK.format(lock=lock)).one()
    return Session(int(backend), bool(held), bool(open_))


def verbatim(connection: sa.Connection, sql: str) -> sa.CursorResult[*tuple[Any, ...]]:
    """Run SQL as it stands: with parameters, some drivers read a percent sign as a placeholder."""
    # Nor by a cursor of the server's, which a revision may have asked for.
    options = {"no_parameters": True, "stream_results": False, "yield_per": None}
    return connection.exec_driver_sql(sql, execution_options=options)


def apply(connection: sa.Connection, values: Mapping[str, str]) -> None:
    """Set the values for the session; those that the server does not know are left out."""
    wanted = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in values.items())
    verbatim(connection, _SET.format(wanted=wanted))
