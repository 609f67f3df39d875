"""env.py and the revisions run apart: what they leave in memory, or crash with, stays there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, Watched, finish
from tests.migrate.project import AlembicProject
from tests.migrate.test_faults import version_and_history_agree
from tests.migrate.test_locks import lines_until
from tidegate.schema import Failure, Outcome

SEED = """
import csv, pathlib
import sqlalchemy as sa
FILE = pathlib.Path(__file__).with_name("seed.csv").open()
ROWS = ({"x": int(row[0])} for row in csv.reader(FILE))
TABLE = sa.table("t", sa.column("x", sa.Integer))
"""
INSERT = "op.bulk_insert(TABLE, list(ROWS))"
HELPER = f"""
import functools
from alembic import op
{SEED}
@functools.cache
def bind():
    return op.get_bind()

def run():
    {INSERT}
    bind().exec_driver_sql("ALTER TABLE t ADD y int")
"""
# The engine of a whole application, whose pool remembers the event loop of its first connection.
POOLED_ENV = """
import asyncio, sys
from alembic import context
sys.path.insert(0, str(__import__("pathlib").Path(__file__).parent))
from its_app import engine

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    async with engine.connect() as connection:
        await connection.run_sync(run)

asyncio.run(main())
"""
ITS_APP = """
import os
from sqlalchemy.ext.asyncio import create_async_engine
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
engine = create_async_engine(url)
"""


@pytest.fixture
def seeded(project: AlembicProject) -> AlembicProject:
    """A project that fills a table from what it has opened where it was loaded, and reads once."""
    project.revision("a", sql="CREATE TABLE t (x int)")
    (project.config.parent / "versions" / "seed.csv").write_text("1\n2\n3\n")
    return project


@pytest.fixture
def reader(database_url: str) -> Iterator[psycopg.Connection]:
    """Who keeps others from changing a table for a while."""
    with psycopg.connect(database_url) as connection:
        yield connection


def test_a_revision_that_is_tried_again_finds_what_it_has_read_the_first_time(
    seeded: AlembicProject, tidegate: Tidegate, rows: Rows, reader: psycopg.Connection
) -> None:
    up = ("up", "--config", seeded.config, "--json")
    assert finish(tidegate(*up))[0] == 0
    reader.execute("SELECT FROM t")
    seeded.written("b", "a", head=SEED, body=f"{INSERT}\nop.execute('ALTER TABLE t ADD y int')")
    run = tidegate(*up)
    lines_until(run, "b did not get its locks and was taken back")
    reader.rollback()
    assert finish(run)[0] == 0
    assert rows("SELECT x FROM t ORDER BY x") == [(1,), (2,), (3,)]


def test_what_lint_has_read_ahead_is_there_for_the_run(
    seeded: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    up = ("up", "--config", seeded.config, "--json")
    assert finish(tidegate(*up))[0] == 0
    folder = seeded.config.parent
    (folder / "versions" / "seed.csv").rename(folder / "seed.csv")
    (folder / "its_helper.py").write_text(HELPER)
    head = f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport its_helper"
    seeded.written("b", "a", head=head, body="its_helper.run()")
    assert finish(tidegate(*up))[0] == 0
    assert rows("SELECT x, y FROM t ORDER BY x") == [(1, None), (2, None), (3, None)]


def test_an_applications_own_pooled_engine_will_do(tmp_path: Path, tidegate: Tidegate) -> None:
    project = AlembicProject(tmp_path / "project", POOLED_ENV)
    (project.config.parent / "its_app.py").write_text(ITS_APP)
    project.revision("a", sql="CREATE TABLE t (x int)").revision("b", "a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.outcome, report.heads) == (0, Outcome.DONE, ("b",)), report


def test_a_revision_that_ends_its_process_is_reported(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    body = "op.execute('ALTER TABLE t ADD y int')\nos._exit(3)"
    project.written("b", "a", head="import os", body=body)
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "b")
    assert "it ended by itself, with exit code 3" in report.message
    assert (report.heads, [each.id for each in report.applied]) == (("a",), ["a"])


@pytest.mark.parametrize("step", ["env.py configured", "revision ran", "revision committed"])
def test_where_its_process_is_killed_the_runner_reports_and_the_next_one_works(
    step: str, project: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)").revision("b", "a").revision("c", "b")
    run = watched(project.config, step, 1, "apart")
    assert run.returncode == 1, run.stderr
    assert "it was ended by SIGKILL, as for want of memory" in run.stderr
    assert version_and_history_agree(rows)
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0


@pytest.mark.parametrize("step", ["env.py configured", "revision ran"])
def test_where_the_runner_is_killed_its_process_ends_with_it(
    step: str, project: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)").revision("b", "a").revision("c", "b")
    assert watched(project.config, step, 1, "runner").returncode == -signal.SIGKILL
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert version_and_history_agree(rows)
