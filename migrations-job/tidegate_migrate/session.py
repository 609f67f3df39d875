"""What the runner sets on the connection that env.py has made, so that a migration stops nobody."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from tidegate_migrate.lock import MIGRATING
from tidegate_migrate.place import literal

if TYPE_CHECKING:
    import sqlalchemy as sa

# A revision that thinks for longer, between two statements, holds its locks meanwhile.
_IDLE: Final = "60s"
# A backend whose runner was killed ends its statement within this time, and lets go of its locks.
_CLIENT_CHECK: Final = "1s"

_SET: Final = """
SELECT set_config(name, value, false)
FROM (VALUES {wanted}) AS wanted (name, value) JOIN pg_settings USING (name)
"""


def initial(*, host: str, lock_timeout: float, statement_timeout: float) -> dict[str, str]:
    """Return the settings of a migrating connection. Time-outs are in seconds, 0 means none."""
    return {
        # Some drivers read a percent sign as a placeholder.
        "application_name": f"{MIGRATING} on {host}".replace("%", "")[:63],
        "lock_timeout": milliseconds(lock_timeout),
        "statement_timeout": milliseconds(statement_timeout),
        "idle_in_transaction_session_timeout": _IDLE,
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


def introduce(connection: sa.Connection, values: Mapping[str, str], lock: str) -> tuple[int, bool]:
    """Set the values for the session; return its backend, and whether it sees the lock held.

    The connection stays as it was found: outside of a transaction, or in the one of env.py.
    Settings that the server does not know are left out. ``lock`` is a condition in SQL.
    """
    wanted = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in values.items())
    own = nullcontext() if connection.in_transaction() else connection.begin()
    with own:
        connection.exec_driver_sql(_SET.format(wanted=wanted))
        backend, held = connection.exec_driver_sql(f"SELECT pg_backend_pid(), {lock}").one()
    return int(backend), bool(held)
