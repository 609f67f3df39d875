"""What is noted of a half-done revision holds exactly as long as what it has done is there."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, Watched, finish
from tests.migrate.project import SYNC_ENV, AlembicProject
from tests.migrate.test_locks import ASYNCPG_ENV
from tidegate.schema import Failure, Verdict

BODY = """
op.execute("ALTER TABLE t ADD y int")
with op.get_context().autocommit_block():
    op.create_index("t_x", "t", ["x"], postgresql_concurrently=True)
"""


@pytest.fixture
def half_done(project: AlembicProject, watched: Watched) -> AlembicProject:
    """A project whose revision b, on a and a second base x, was killed within its block."""
    project.revision("a", sql="CREATE TABLE t (x int)").revision("x")
    project.written("b", "a", body=BODY, head="depends_on = 'x'")
    killed = watched(project.config, "autocommit statement begun")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return project


@pytest.mark.parametrize("below", ["a", "x"], ids=["a branch", "what it depends on"])
def test_what_the_runner_itself_applies_of_another_branch_takes_nothing_back(
    below: str, half_done: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    half_done.revision("c", below).revision("d", "c")
    up = ("up", "--config", half_done.config, "--json")
    assert finish(tidegate(*up, "--to", "d"))[0] == 0
    code, report = finish(tidegate(*up))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report
    assert rows("SELECT count(*) FROM tidegate_unfinished") == [(0,)]


def test_what_was_perhaps_undone_stays_so_when_the_runner_applies_another_branch(
    half_done: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    half_done.revision("c", "x")
    with psycopg.connect(database_url) as connection:  # as `alembic downgrade` and `upgrade` do
        connection.execute("UPDATE alembic_version SET version_num = 'a' WHERE version_num = 'a'")
    up = ("up", "--config", half_done.config, "--json")
    assert finish(tidegate(*up, "--to", "c"))[0] == 0
    code, report = finish(tidegate(*up))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "b")
    assert "may have been undone" in report.message


@pytest.mark.parametrize("command", [("up",), ("stamp", "--adopt")], ids=["up", "stamp"])
def test_what_was_finished_by_hand_and_taken_back_later_keeps_no_older_image_away(
    command: tuple[str, ...],
    project: AlembicProject,
    watched: Watched,
    tidegate: Tidegate,
    tmp_path: Path,
    database_url: str,
) -> None:
    older = AlembicProject(tmp_path / "older")
    for each in (project, older):
        each.revision("a", sql="CREATE TABLE t (x int)")
    project.written("b", "a", body=BODY, phase="contract")
    killed = watched(project.config, "autocommit statement begun")  # an empty database gets all
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert finish(tidegate("wait", "--config", older.config, "--json"))[0] == 4
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'b'")
        assert tidegate(*command, "--config", project.config).wait(60) == 0
        connection.execute("UPDATE alembic_version SET version_num = 'a'")
    code, report = finish(tidegate("wait", "--config", older.config, "--json"))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report


@pytest.mark.parametrize("env", [SYNC_ENV, ASYNCPG_ENV], ids=["psycopg", "asyncpg"])
def test_names_that_sqlalchemy_reads_as_parameters_are_names_like_any_other(
    env: str, tmp_path: Path, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute('CREATE SCHEMA "s :y"')
    env = env.replace(
        "connection=connection",
        "connection=connection, version_table='v :x', version_table_schema='s :y'",
    )
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="CREATE TABLE t (x int)")
    project.written("b", "a", body=BODY)
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows('SELECT count(*) FROM "s :y"."tidegate_unfinished_v :x"') == [(0,)]
