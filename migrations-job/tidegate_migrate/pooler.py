"""Finds a pooler that lends its server connections by the transaction: there no lock holds.

A session's advisory lock, its time-outs and its CREATE INDEX CONCURRENTLY all belong to one server
connection, which PgBouncer in transaction or statement mode gives to the next client.
"""

from __future__ import annotations

from typing import Final

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.failure import MigrateError

_ROUNDS: Final = 10
_PATIENCE: Final = 5  # seconds, for a second connection
_HINT: Final = (
    "set DIRECT_URL to PostgreSQL itself, past the pooler (or to a pool in session mode); "
    "DATABASE_URL may stay as it is for the service"
)


def refuse_shared_connections(connection: psycopg.Connection, url: str) -> int:
    """Return the backend's process id, which stays this connection's own.

    A pooler has to make up the process id that it tells a client, for it is what a client cancels
    by. Where the two differ, a second connection shows whether backends change hands.

    Raises:
        MigrateError: ``settings``, with the words ``DIRECT_URL``.
    """
    backend = _backend(connection)
    if backend == connection.info.backend_pid:
        return backend
    try:
        with psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=_PATIENCE,
            application_name="tidegate migrate (looks for a pooler)",
        ) as other:
            for _ in range(_ROUNDS):
                if len({backend, _backend(connection)}) > 1 or _backend(other) == backend:
                    raise MigrateError(
                        Failure.SETTINGS,
                        "the database is reached through a pooler (PgBouncer or its like) in "
                        "transaction mode, where no lock and no time-out holds",
                        hint=_HINT,
                    )
    except psycopg.OperationalError as error:
        raise MigrateError(
            Failure.SETTINGS,
            "the database is reached through a pooler that gives no second connection "
            f"({str(error).splitlines()[0]})",
            hint=_HINT,
        ) from None
    return backend


def _backend(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
