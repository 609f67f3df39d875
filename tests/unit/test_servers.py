"""The servers that other tests run against are what they claim to be."""

from __future__ import annotations

import psycopg

from tests.pgbouncer import Pgbouncer


def test_pgbouncer_in_transaction_mode_gives_a_client_another_backend_for_each_transaction(
    pgbouncer: Pgbouncer,
) -> None:
    url = pgbouncer("transaction")
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url) as other:
        before = _backend(one)
        assert _backend(other) == before  # ... and keeps it: its transaction is open
        assert _backend(one) != before


def test_pgbouncer_in_session_mode_keeps_a_backend_for_each_client(pgbouncer: Pgbouncer) -> None:
    url = pgbouncer("session")
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url) as other:
        before = _backend(one)
        assert _backend(other) != before
        assert _backend(one) == before


def test_debians_postgresql_is_another_release_than_the_embedded_one(
    debian_postgres: str, postgres: str
) -> None:
    with psycopg.connect(debian_postgres) as old, psycopg.connect(postgres) as new:
        assert 15_00_00 <= old.info.server_version < new.info.server_version


def _backend(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row
    return int(row[0])
