"""An Alembic project for a measurement, and the two programs that run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.processes import BenchError

COMMANDS = {
    "alembic": ("alembic", "upgrade", "heads"),
    "tidegate": ("tidegate", "migrate", "up"),
}

_ENV = """\
import os

from alembic import context
from sqlalchemy import create_engine, pool

url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""

_REVISION = """\
from alembic import op

revision = "r{number}"
down_revision = {down!r}


def upgrade():
    op.execute({statement!r})
"""


def write_project(folder: Path, statements: Iterable[str]) -> None:
    """Write a linear history, one revision for each statement, from r0 on."""
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    (folder / "env.py").write_text(_ENV)
    versions = folder / "versions"
    versions.mkdir()
    down = None
    for number, statement in enumerate(statements):
        text = _REVISION.format(number=number, down=down, statement=statement)
        down = f"r{number}"
        (versions / f"{down}.py").write_text(text)


def start(command: tuple[str, ...], folder: Path, url: str) -> subprocess.Popen[str]:
    """Start a program of this environment in the project's folder."""
    program, *arguments = command
    return subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=folder,
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program: subprocess.Popen[str]) -> None:
    """Wait for its end.

    Raises:
        BenchError: it failed.
    """
    _, said = program.communicate()
    if program.returncode:
        raise BenchError(f"{program.args!r} ended with {program.returncode}: {said[-500:]}")
