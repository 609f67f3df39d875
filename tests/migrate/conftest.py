"""The runner's tests run it in process, or as the Job does: as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.migrate.project import AlembicProject
from tidegate.schema import Report

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "report.schema.json").read_text()
)
VALIDATOR = Draft202012Validator(SCHEMA)

Tidegate = Callable[..., subprocess.Popen[str]]
Rows = Callable[[str], list[tuple[Any, ...]]]
Watched = Callable[..., subprocess.CompletedProcess[str]]

WATCHED = """
import os, pathlib, signal, sys
from tidegate_migrate import boundary, cli

deadly, nth, whom = sys.argv[1], int(sys.argv[2]), sys.argv[3]
runner = os.getpid()
passed = pathlib.Path(sys.argv[4])  # by the runner, and by the processes that it has apart

def reached(step):
    with passed.open("a") as file:
        print(step, file=file)
    if step == deadly and passed.read_text().splitlines().count(step) == nth:
        if whom != "apart":  # as a container is: the processes that it has apart, too
            os.kill(runner, signal.SIGKILL)
        if whom != "runner":
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

boundary.reached = reached
code = cli.main(sys.argv[5:])
print("|".join(dict.fromkeys(passed.read_text().splitlines())), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def project(tmp_path: Path) -> AlembicProject:
    """A project without revisions."""
    return AlembicProject(tmp_path / "project")


@pytest.fixture
def tidegate(database_url: str) -> Iterator[Tidegate]:
    """Start `tidegate migrate ...` against the test's database; none outlives its test."""
    with ExitStack() as stack:

        def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tidegate.cli", "migrate", *map(str, arguments)],
                    env=clean_environment() | {"DATABASE_URL": database_url} | environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def rows(database_url: str) -> Rows:
    """Query the test's database."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(sql.encode()).fetchall()

    return query


@pytest.fixture
def watched(database_url: str, tmp_path: Path) -> Watched:
    """Run `up`, and kill it the nth time that it comes to a step.

    `whom` may be the `runner` alone, the process that it has `apart`, or `all`.
    """

    def run(
        config: Path, step: str = "", nth: int = 1, whom: str = "all"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-c", WATCHED, step, str(nth), whom, str(tmp_path / uuid4().hex)),
                *("up", "--config", str(config)),
            ],
            env=clean_environment() | {"DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


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


def finish(process: subprocess.Popen[str]) -> tuple[int, Report]:
    """Wait for a run with --json and read what it printed."""
    output, errors = process.communicate(timeout=120)
    assert output, errors
    return process.returncode, Report.from_json(output)


def answer(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Wait for a command with --json and read all that it printed: a report, and more beside."""
    output, errors = process.communicate(timeout=120)
    assert output, errors
    told: dict[str, Any] = json.loads(output)
    VALIDATOR.validate(told)
    return process.returncode, told


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would steer the runner."""
    steering = ("TIDEGATE_", "DATABASE_URL", "DIRECT_URL", "ALEMBIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)}
