"""The runner's tests run it in process, or as the Job does: as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.migrate.project import AlembicProject

Tidegate = Callable[..., subprocess.Popen[str]]
Rows = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def project(tmp_path: Path) -> AlembicProject:
    """A project without revisions."""
    return AlembicProject(tmp_path / "project")


@pytest.fixture
def tidegate(database_url: str) -> Tidegate:
    """Start `tidegate migrate ...` against the test's database."""

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tidegate.cli", "migrate", *map(str, arguments)],
            env=clean_environment() | {"DATABASE_URL": database_url} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def rows(database_url: str) -> Rows:
    """Query the test's database."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(sql.encode()).fetchall()

    return query


@pytest.fixture
def password_login(postgres: str, database_url: str) -> Iterator[str]:
    """A role that must give a password, on a server that trusts everybody else."""
    name = f"guarded_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'the-right-one'".encode())
        row = connection.execute("SHOW hba_file").fetchone()
        assert row
        rules = Path(row[0])
        before = rules.read_text()
        rules.write_text(f"local all {name} scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield name
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"DROP ROLE {name}".encode())


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would steer the runner."""
    steering = ("TIDEGATE_", "DATABASE_URL", "DIRECT_URL", "ALEMBIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)}
