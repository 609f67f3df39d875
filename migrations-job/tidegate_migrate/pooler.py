"""Finds a pooler that lends its server connections by the transaction: there no lock holds.

A session's advisory lock, its time-outs and its CREATE INDEX CONCURRENTLY all belong to one server
connection, which PgBouncer in transaction or statement mode gives to the next client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.failure import MigrateError

if TYPE_CHECKING:
    import sqlalchemy as sa

_ROUNDS: Final = 10
_PID: Final = "SELECT pg_backend_pid()"
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


def refuse_shared_engine(connection: sa.Connection) -> None:
    """Look at the connection that env.py has made, which need not be the runner's URL's.

    Nothing is set on it before. It may be in a transaction, where a pooler keeps its backend; so
    it is two more connections that show whether backends change hands.

    Raises:
        MigrateError: ``settings``, with the words ``DIRECT_URL``.
    """
    began = not connection.in_transaction()
    backend = connection.exec_driver_sql(_PID).scalar_one()
    if began:
        connection.rollback()
    if backend == _told(connection):
        return
    with connection.engine.connect() as one, connection.engine.connect() as other:
        seen = [(_lent(one), _lent(other)) for _ in range(_ROUNDS)]
    if len({first for first, _ in seen}) > 1 or any(first == second for first, second in seen):
        raise MigrateError(
            Failure.SETTINGS,
            "env.py reaches the database through a pooler (PgBouncer or its like) in transaction "
            "mode, where no lock and no time-out holds",
            hint="let env.py take its URL from DATABASE_URL or from sqlalchemy.url, where the "
            "runner puts DIRECT_URL's",
        )


def _told(connection: sa.Connection) -> int | None:
    """Return the process id that the driver was told; ``None`` where it does not tell."""
    driver = connection.connection.driver_connection
    if ask := getattr(driver, "get_server_pid", None):  # asyncpg
        return int(ask())
    info = getattr(driver, "info", None)  # psycopg, psycopg2
    return getattr(info, "backend_pid", None)


def _lent(connection: sa.Connection) -> int:
    backend: int = connection.exec_driver_sql(_PID).scalar_one()
    connection.rollback()
    return backend


def _backend(connection: psycopg.Connection) -> int:
    row = connection.execute(_PID).fetchone()
    return int(row[0]) if row else 0
