"""A run that is killed, cut off or refused at any of its steps leaves nothing that disagrees."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.migrate.conftest import Rows, Tidegate, Watched, answer, finish
from tests.migrate.project import SYNC_ENV, AlembicProject
from tidegate.database import asyncpg_url, read_applied
from tidegate.schema import Failure, Outcome, Verdict

STEPS = (
    "connected",
    "env.py looked at",
    "lock taken",
    "tables made",
    "env.py configured",
    "revision begun",
    "revision ran",
    "version and history written",
    "revision committed",
    "autocommit block entered",
    "autocommit block committed what was before it",
    "autocommit statement begun",
    "autocommit statement ran",
    "autocommit statement journaled",
    "lock released",
    "report delivered",
)
AGAIN = (
    "revision begun",
    "version and history written",
    "autocommit statement begun",
    "autocommit statement ran",
    "autocommit statement journaled",
)
IN_PARTS = """
op.execute("ALTER TABLE t ADD y int")
with op.get_context().autocommit_block():
    op.create_index("t_x", "t", ["x"], postgresql_concurrently=True)
    op.execute("CREATE UNIQUE INDEX CONCURRENTLY t_y ON t (y)")
op.execute("ALTER TABLE t ADD z int")
"""


@pytest.fixture
def in_parts(project: AlembicProject) -> AlembicProject:
    """Three revisions; the second commits twice before it is done."""
    project.revision("a", sql="CREATE TABLE t (x int)")
    return project.written("b", "a", body=IN_PARTS).revision("c", "b", sql="CREATE TABLE u ()")


def test_a_run_comes_to_each_of_the_steps_that_are_named_here(
    in_parts: AlembicProject, watched: Watched
) -> None:
    run = watched(in_parts.config)
    assert run.returncode == 0, run.stderr
    assert set(run.stderr.splitlines()[-1].split("|")) == set(STEPS)


@pytest.mark.parametrize(
    ("step", "nth"), [*((step, 1) for step in STEPS), *((step, 2) for step in AGAIN)]
)
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    step: str, nth: int, in_parts: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    killed = watched(in_parts.config, step, nth)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert version_and_history_agree(rows)
    code, report = finish(tidegate("up", "--config", in_parts.config, "--json"))
    assert (code, report.verdict, report.heads) == (0, Verdict.CURRENT, ("c",)), report
    assert version_and_history_agree(rows)
    assert rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 "
        "ORDER BY attnum"
    ) == [("x",), ("y",), ("z",)]
    assert rows(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = 't'::regclass ORDER BY 1"
    ) == [("t_x", True), ("t_y", True)]
    assert rows("SELECT count(*) FROM tidegate_unfinished") == [(0,)]


def version_and_history_agree(rows: Rows) -> bool:
    [(made,)] = rows("SELECT to_regclass('alembic_version') IS NOT NULL")
    heads = rows("SELECT version_num FROM alembic_version") if made else []
    [(made,)] = rows("SELECT to_regclass('tidegate_schema_history') IS NOT NULL")
    history = rows("SELECT revision FROM tidegate_schema_history") if made else []
    expected = "abc"[: "abc".index(heads[0][0]) + 1] if heads else ""
    return sorted(name for (name,) in history) == list(expected)


CUT = "SELECT pg_terminate_backend(pg_backend_pid())"


def test_a_connection_that_is_cut_during_ddl_takes_the_revision_back_and_may_be_tried_again(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.written("b", "a", body=f"op.execute('ALTER TABLE t ADD y int')\nop.execute({CUT!r})")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (5, Failure.UNREACHABLE, "b")
    assert (report.heads, [done.id for done in report.applied]) == (("a",), ["a"])
    project.revision("b", "a", sql="ALTER TABLE t ADD y int")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0


def test_a_connection_that_breaks_without_a_word_in_a_block_may_be_tried_again(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    body = """
with op.get_context().autocommit_block():
    connection = os.dup(op.get_bind().connection.driver_connection.fileno())
    socket.socket(fileno=connection).shutdown(socket.SHUT_RDWR)
    op.execute("SELECT 1")
"""
    project.written("a", head="import os, socket", body=body)
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (5, Failure.UNREACHABLE, "a"), report
    assert "closed the connection" in report.message


def test_a_run_whose_lock_was_lost_commits_nothing_more(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    cut_the_holder = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks "
        "WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.written(
        "b",
        "a",
        body=f"op.execute({cut_the_holder!r})\nop.execute('SELECT pg_sleep(0.2)')\n"
        "op.execute('CREATE TABLE u ()')",
    )
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (5, Failure.UNREACHABLE, "b")
    assert "another runner may be at work" in report.message
    assert report.heads == ("a",)
    assert rows("SELECT to_regclass('u')") == [(None,)]


def test_a_run_whose_lock_was_lost_before_its_first_block_may_be_tried_again(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    cut_the_holder = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'tidegate migrate %' AND datname = current_database()"
    )
    body = f"op.execute({cut_the_holder!r})\nwith op.get_context().autocommit_block():\n    pass"
    project.written("a", body=body)
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (5, Failure.UNREACHABLE), report


def test_a_run_whose_lock_was_lost_while_env_py_was_loading_may_be_tried_again(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    end_the_holder = """
import os, pathlib, psycopg
looked = pathlib.Path(__file__).with_name("looked")
if looked.exists():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
looked.touch()
"""
    project = AlembicProject(tmp_path / "project", end_the_holder + SYNC_ENV).revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (5, Failure.UNREACHABLE), report
    assert "the connection to the database broke" in report.message
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(0,)]


async def test_a_contract_revision_that_failed_half_way_keeps_the_images_away_that_it_breaks(
    project: AlembicProject, tmp_path: Path, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    old = AlembicProject(tmp_path / "old")
    for each in (project, old):
        each.revision("a", sql="CREATE TABLE t (x int, y int); INSERT INTO t VALUES (1), (1)")
    assert finish(tidegate("up", "--config", old.config, "--json"))[0] == 0
    index = "op.execute('CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x)')"
    alone = f"with op.get_context().autocommit_block():\n    {index}"
    up = ("up", "--config", project.config, "--json", "--phase", "all", "--nobody-runs-older")
    project.written("b", "a", phase="contract", body=alone)
    assert finish(tidegate(*up))[0] == 1
    assert finish(tidegate("up", "--config", old.config, "--json"))[0] == 0  # nothing is done yet
    drop = "op.execute('ALTER TABLE t DROP y')"
    project.written("b", "a", phase="contract", body=f"{drop}\n{alone}")
    assert finish(tidegate(*up))[0] == 1
    for command in (("up",), ("wait", "--timeout", "0")):
        code, report = finish(tidegate(*command, "--config", old.config, "--json"))
        assert (code, report.failure, report.revision) == (4, Failure.INCOMPATIBLE, "b"), report
    engine = create_async_engine(asyncpg_url(database_url))
    async with engine.connect() as connected:  # as a service reads it
        assert (await read_applied(connected)).half_contracted == {"b"}
    await engine.dispose()
    _, told = answer(tidegate("plan", "--config", project.config, "--json"))
    assert (told["pending"], told["rollback"]["needs_now"]) == ({"b": "contract"}, ["b"])
    with psycopg.connect(database_url) as connection:
        connection.execute("TRUNCATE t")
        connection.execute("SET ROLE pg_monitor")  # whatever role a service has
        connection.execute("SELECT FROM tidegate_unfinished")
    code, report = finish(tidegate(*up))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report


def test_a_run_whose_lock_was_lost_in_an_autocommit_block_stops_at_the_next_statement(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    body = """
with op.get_context().autocommit_block():
    op.execute("SELECT pg_advisory_lock(1)")
    op.execute("CREATE INDEX CONCURRENTLY t_x ON t (x)")
"""
    project.written("b", "a", body=body)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        up = ("up", "--config", project.config, "--json", "--ddl-lock-timeout", "30")
        run = tidegate(*up)
        wait_until(connection, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND classid <> 0 AND granted"
        )
        connection.execute("SELECT pg_advisory_unlock(1)")
        code, report = finish(run)
    assert (code, report.failure, report.revision) == (5, Failure.UNREACHABLE, "b")
    assert "another runner may be at work" in report.message
    assert rows("SELECT to_regclass('t_x')") == [(None,)]


def test_what_was_finished_and_taken_back_by_hand_is_not_taken_for_done(
    in_parts: AlembicProject,
    watched: Watched,
    tidegate: Tidegate,
    database_url: str,
) -> None:
    up = ("up", "--config", in_parts.config, "--json")
    assert watched(in_parts.config, "autocommit statement begun").returncode == -signal.SIGKILL
    with psycopg.connect(database_url, autocommit=True) as connection:
        for version in ("b", "a"):  # as `alembic upgrade b` and `alembic downgrade a` leave it
            connection.execute("UPDATE alembic_version SET version_num = %s", [version])
        connection.execute("ALTER TABLE t DROP y")
        code, report = finish(tidegate(*up))
        assert (code, report.revision) == (1, "b")
        assert "may have been undone" in report.message
        connection.execute("DELETE FROM tidegate_unfinished")
    assert finish(tidegate(*up))[0] == 0


def test_what_was_finished_by_hand_is_no_longer_noted_as_unfinished(
    in_parts: AlembicProject, watched: Watched, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    assert watched(in_parts.config, "autocommit statement begun").returncode == -signal.SIGKILL
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'b'")
    assert finish(tidegate("up", "--config", in_parts.config, "--json"))[0] == 0
    assert rows("SELECT count(*) FROM tidegate_unfinished") == [(0,)]


def wait_until(connection: psycopg.Connection, query: str) -> None:
    """Wait until the query finds something."""
    deadline = time.monotonic() + 60
    while not connection.execute(query.encode()).rowcount:
        assert time.monotonic() < deadline, query
        time.sleep(0.05)


def test_a_full_disk_is_named_and_leaves_nothing_behind(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    # The server's own error; a disk that is really full would stop every other test as well.
    full = "DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    project.written("a", body=f"op.execute('CREATE TABLE t (x int)')\nop.execute({full!r})")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (1, Failure.MIGRATION_ERROR)
    assert "disk is full: make room" in report.hint
    assert rows("SELECT to_regclass('t')") == [(None,)]


def test_a_graph_that_goes_in_circles_is_refused(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a", "c").revision("b", "a").revision("c", "b")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "cycle" in report.message.lower()


def test_two_heads_are_two_branches_and_both_are_applied(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a").revision("x", "a").revision("y", "a")
    project.revision("other_base")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("other_base", "x", "y"))


def test_a_database_that_comes_back_after_a_while_is_waited_for(
    project: AlembicProject, tidegate: Tidegate, postgres: str, database_url: str
) -> None:
    project.revision("a")
    with psycopg.connect(postgres, autocommit=True) as connection:
        [name] = connection.execute(
            "SELECT substring(%s FROM 'test_[0-9a-f]+')", [database_url]
        ).fetchone() or [""]
        refuse = f"ALTER DATABASE {name} ALLOW_CONNECTIONS"
        connection.execute(f"{refuse} false".encode())
        run = tidegate("up", "--config", project.config, "--json")
        assert run.stderr
        assert "waiting up to 60 s for the database" in run.stderr.readline()
        connection.execute(f"{refuse} true".encode())
    code, report = finish(run)
    assert (code, report.outcome) == (0, Outcome.DONE)


@pytest.mark.parametrize("between_statements", [False, True])
def test_what_another_runner_still_migrates_after_it_lost_its_lock_is_waited_for(
    between_statements: bool, project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a")
    orphan = f"{database_url}&application_name=tidegate%20migration%20on%20gone"
    with psycopg.connect(orphan) as connection:
        connection.execute("SELECT 1")
        if between_statements:
            connection.commit()
        run = tidegate("up", "--config", project.config, "--json", "--lock-timeout", "1")
        code, report = finish(run)
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
        assert f"pg_terminate_backend({connection.info.backend_pid})" in report.hint
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
