"""The connection that a backfill works on, and the lock that keeps a second one out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from tidegate_migrate import database
from tidegate_migrate.backfill.declaration import Declaration
from tidegate_migrate.backfill.screen import Screen
from tidegate_migrate.lock import migration_lock
from tidegate_migrate.pooler import refuse_shared_connections
from tidegate_migrate.settings import Settings

_SETTINGS: Final = (
    # A process that was frozen, or a machine that is gone, must not keep rows and lock.
    ("idle_in_transaction_session_timeout", "10s"),
    ("idle_session_timeout", "60s"),
    ("client_connection_check_interval", "1s"),
    ("default_transaction_isolation", "read committed"),
    # A batch is a small part of the table, whatever the statistics say of its range.
    ("enable_seqscan", "off"),
    # Keys travel as text: it has to say all of a time and of a number.
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
)


@contextmanager
def connect(settings: Settings, name: str, screen: Screen) -> Iterator[psycopg.Connection]:
    """Connect for the backfill ``name``.

    Raises:
        MigrateError: the database is not reached, or through a pooler that shares connections.
    """
    connection = database.connect(
        settings.url,
        timeout=settings.connect_timeout,
        application_name=f"tidegate backfill {name} {os.uname().nodename}"[:63],
        say=screen.say,
    )
    with connection:
        connection.prepare_threshold = None  # a generic plan could read the whole table
        with database.errors_in_words():
            refuse_shared_connections(connection, settings.url)
            for setting in _SETTINGS:
                connection.execute("SELECT set_config(%s, %s, false)", setting)
        yield connection


@contextmanager
def alone(
    connection: psycopg.Connection, declaration: Declaration, settings: Settings, screen: Screen
) -> Iterator[None]:
    """Hold the backfill's own lock, with the time-outs of a batch set on the connection."""
    key = int.from_bytes(hashlib.sha256(f"backfill {declaration.name}".encode()).digest()[:8])
    with migration_lock(
        connection,
        timeout=settings.lock_timeout,
        say=screen.say,
        key=key - (1 << 63),
        work=f"run of the backfill {declaration.name}",
    ):
        rules = declaration.pace
        for name, seconds in (
            ("lock_timeout", rules.lock_timeout),
            ("statement_timeout", rules.statement_timeout),
        ):
            connection.execute(
                "SELECT set_config(%s, %s, false)", [name, f"{seconds * 1000:.0f}ms"]
            )
        yield
