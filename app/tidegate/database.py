"""The service's side of the database: its URL for asyncpg, and reading what is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.schema import BEGUN, HISTORY_TABLE, UNFINISHED_TABLE, Applied, own_table

_LIBPQ_ONLY: Final = {
    "application_name",
    "channel_binding",
    "connect_timeout",
    "gssencmode",
    "keepalives",
    "options",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "tcp_user_timeout",
}

_HEADS: Final = "SELECT version_num FROM {}"
_HISTORY: Final = "SELECT revision, phase, down FROM {}"

__all__ = ["asyncpg_url", "qualified", "read_applied"]


def asyncpg_url(url: str) -> URL:
    """Return a libpq-style URL (``postgres://``, ``?sslmode=``) as SQLAlchemy's asyncpg wants it.

    Raises:
        ValueError: it does not name a PostgreSQL database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"postgres", "postgresql"}:
        raise ValueError("write it as postgresql://user:password@host:5432/database")
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's word; asyncpg calls it ssl
        query["ssl"] = query.pop("sslmode")
    for name in sorted(_LIBPQ_ONLY & query.keys()):
        raise ValueError(
            f"asyncpg does not take the option {name}; leave it out, or keep it for DIRECT_URL"
        )
    return parsed.set(drivername="postgresql+asyncpg", query=query)


async def read_applied(connection: AsyncConnection, version_table: str = "") -> Applied:
    """Read A: Alembic's heads, the history's rows, what is begun; absent tables hold nothing.

    ``version_table`` is the manifest's: ``table`` or ``schema.table``, "" for Alembic's default.
    """
    heads: Sequence[str] = ()
    rows: Sequence[Any] = ()
    begun: Sequence[Any] = ()
    schema, _, table = version_table.rpartition(".")
    versions = qualified(schema, table or "alembic_version")
    history = qualified(schema, own_table(HISTORY_TABLE, table))
    unfinished = qualified(schema, own_table(UNFINISHED_TABLE, table))
    if await _exists(connection, versions):
        heads = [name for (name,) in await _rows(connection, _HEADS.format(versions))]
    if await _exists(connection, history):
        rows = await _rows(connection, _HISTORY.format(history))
    if await _exists(connection, unfinished):
        begun = await _rows(connection, BEGUN.format(unfinished))
    return Applied.of(heads, rows, begun)


def qualified(schema: str, table: str) -> str:
    """Return the name as SQL writes it; without a schema the search_path finds it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in (schema, table) if name)


async def _rows(connection: AsyncConnection, query: str) -> Sequence[Any]:
    # Where there are parameters, some drivers read a percent sign in a name as a placeholder.
    found = await connection.exec_driver_sql(query, execution_options={"no_parameters": True})
    return found.all()


async def _exists(connection: AsyncConnection, table: str) -> bool:
    found = await connection.execute(
        text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table}
    )
    return bool(found.scalar_one())
