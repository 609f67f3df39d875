"""What stands alone in an autocommit block, whoever sent it."""

from __future__ import annotations

import subprocess
import threading

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import AlembicProject
from tests.migrate.test_locks import ENVS, lines_until
from tidegate.schema import Failure
from tidegate_migrate import journal
from tidegate_migrate.kinds import is_setting, settings_in
from tidegate_migrate.place import Place

UP = ("up", "--nobody-runs-older", "--json", "--config")
PAST_OP = """
with op.get_context().autocommit_block():
    index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x)"
    op.get_bind().exec_driver_sql(index)
"""
BUILT = "SELECT indisvalid FROM pg_index WHERE indrelid = 't'::regclass"


@pytest.fixture
def writer(database_url: str) -> psycopg.Connection:
    """A transaction that has written to the table ``t``, and is not over."""
    connection = psycopg.connect(database_url)
    connection.execute("CREATE TABLE t (x int)")
    connection.commit()
    connection.execute("INSERT INTO t VALUES (1)")
    return connection


@ENVS
def test_an_index_that_is_built_past_op_waits_for_old_transactions_like_any_other(
    env: str, project: AlembicProject, tidegate: Tidegate, writer: psycopg.Connection, rows: Rows
) -> None:
    (project.config.parent / "env.py").write_text(env)
    project.written("a", body=PAST_OP)
    with writer:
        up = (*UP, project.config, "--ddl-lock-timeout", "0.2", "--statement-timeout", "0.5")
        run = tidegate(*up)
        lines_until(run, "waiting for a lock held by")
        with pytest.raises(subprocess.TimeoutExpired):  # longer than both
            run.wait(1)
    code, report = finish(run)
    assert (code, rows(BUILT)) == (0, [(True,)]), report


def test_an_index_that_somebody_is_building_is_no_leftover_and_is_waited_for(
    project: AlembicProject,
    tidegate: Tidegate,
    writer: psycopg.Connection,
    database_url: str,
    rows: Rows,
) -> None:
    create = "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x)"
    project.written("a", body=PAST_OP)
    failed: list[psycopg.Error] = []

    def build() -> None:
        try:
            by_hand.execute(create)
        except psycopg.Error as error:
            failed.append(error)

    url = f"{database_url}&application_name=by%20hand"
    with psycopg.connect(url, autocommit=True) as by_hand, writer:
        thread = threading.Thread(target=build)
        thread.start()
        while not rows("SELECT FROM pg_stat_progress_create_index WHERE relid = 't'::regclass"):
            assert thread.is_alive()
        code, report = finish(tidegate(*UP, project.config, "--deadline", "0.5"))
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT), report
        assert "another index to be built on the same table, by by hand" in report.message
        run = tidegate(*UP, project.config)
        lines_until(run, "waiting for another index to be built on the same table, by by hand")
        [(before,)] = rows("SELECT 't_x'::regclass::oid")
        writer.commit()
        thread.join(60)
        code, report = finish(run)
    assert (code, failed) == (0, []), report
    assert rows("SELECT 't_x'::regclass::oid") == [(before,)]


def test_time_outs_that_a_revision_has_set_itself_hold_in_its_blocks_and_after_them(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    note = "INSERT INTO seen SELECT current_setting('statement_timeout')"
    body = f"""
op.execute("CREATE TABLE seen (x text)")
op.execute("SET statement_timeout = '21s'")
with op.get_context().autocommit_block():
    op.execute("{note}")
    op.execute("SET statement_timeout = '22s'")
    op.execute("CREATE INDEX CONCURRENTLY ON seen (x)")
    op.get_bind().exec_driver_sql("{note} -- past op")
op.execute("{note}")
"""
    project.written("a", body=body).revision("b", "a", sql=note)
    code, report = finish(tidegate(*UP, project.config))
    assert code == 0, report
    assert rows("SELECT x FROM seen") == [("21s",), ("22s",), ("22s",), ("30s",)]


@pytest.mark.parametrize("first", [True, False])
def test_a_half_done_revision_that_has_committed_nothing_may_begin_otherwise(
    first: bool, project: AlembicProject, tidegate: Tidegate
) -> None:
    down = () if first else ("a",)
    if not first:
        project.revision("a")
    block = "with op.get_context().autocommit_block():\n    op.execute('SELECT 1 / {}')"
    begins = "SET lock_timeout = 0" if first else "SELECT 1"
    project.written("b", *down, body=f"op.execute('{begins}')\n" + block.format(0))
    assert finish(tidegate(*UP, project.config))[0] == 1
    project.written("b", *down, body="op.execute('CREATE TABLE t (x int)')\n" + block.format(1))
    code, report = finish(tidegate(*UP, project.config))
    assert code == 0, report


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_a_revision_that_ends_its_own_transaction_is_stopped_and_leaves_nothing(
    how: str, project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    body = f"op.execute('ALTER TABLE t ADD y int')\nop.get_bind().{how}()"
    project.written("b", "a", body=f"{body}\nop.execute('ALTER TABLE t ADD z int')")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "b")
    assert f"ends its own transaction ({how}() of its connection)" in report.message
    assert report.heads == ("a",)
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"
    assert rows(columns) == [("x",)]


def test_the_table_of_an_earlier_runner_is_read_and_gets_what_it_lacks(database_url: str) -> None:
    place = Place("public")
    with psycopg.connect(database_url, autocommit=True) as connection:
        journal.ensure(connection, place)
        connection.execute("ALTER TABLE tidegate_unfinished DROP ended, DROP counts")
        connection.execute(
            "INSERT INTO tidegate_unfinished VALUES ('a', 'expand', '{}', '', 'sum', 1, 2, "
            "'before', '{one}', 'two', now())"
        )
        for _ in range(2):
            entry = journal.read(connection, place)["a"]
            assert (entry.done, entry.alone, entry.begun) == (2, ("one",), ("two",))
            assert not any((*entry.ended, entry.counts))
            journal.ensure(connection, place)
        added = connection.execute("SELECT ended, counts FROM tidegate_unfinished").fetchall()
        assert added == [("", "")]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("SET lock_timeout = 0", ["SET lock_timeout = 0"]),
        ("SET LOCAL x.y = ';'; INSERT INTO t VALUES (1)", ["SET LOCAL x.y = ';'"]),
        (
            "CREATE TABLE t (); SELECT pg_catalog.set_config('search_path', '', false);",
            ["SELECT pg_catalog.set_config('search_path', '', false)"],
        ),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SET x.y = 1 $$", []),
        ("UPDATE t SET x = 1", []),
    ],
)
def test_of_several_statements_those_that_set_something_are_told_from_the_others(
    text: str, settings: list[str]
) -> None:
    assert settings_in(text) == settings
    assert is_setting(text) == (settings == [text])


@given(st.text())
def test_any_text_whatever_is_told_apart_without_a_fault(text: str) -> None:
    assert is_setting(text) in {True, False}


CAUGHT = """
try:
    with op.get_bind().begin_nested():
        op.execute("ALTER TABLE t ADD COLUMN y int")
except Exception:
    pass  # some installations have it
"""
CAUGHT_IN_A_BLOCK = """
try:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE t ADD COLUMN y int")
except Exception:
    pass
op.execute("CREATE TABLE u ()")
"""


@ENVS
def test_a_lock_that_a_revision_did_not_get_is_not_its_own_to_catch(
    env: str, project: AlembicProject, tidegate: Tidegate, writer: psycopg.Connection, rows: Rows
) -> None:
    (project.config.parent / "env.py").write_text(env)
    project.written("a", body=CAUGHT)
    run = tidegate(*UP, project.config)
    lines_until(run, "waiting for a lock held by")
    writer.commit()
    code, report = finish(run)
    assert code == 0, report
    assert rows("SELECT attname FROM pg_attribute WHERE attname = 'y'") == [("y",)]
    writer.close()


def test_a_block_that_was_given_up_ends_the_revision_though_it_catches_that(
    project: AlembicProject, tidegate: Tidegate, writer: psycopg.Connection, rows: Rows
) -> None:
    project.written("a", body=CAUGHT_IN_A_BLOCK)
    with writer:
        code, report = finish(tidegate(*UP, project.config, "--deadline", "1"))
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert rows("SELECT to_regclass('u')") == [(None,)]


FAILS_ONCE = """
import sqlalchemy as sa
try:
    with op.get_context().autocommit_block():
        op.execute("INSERT INTO t VALUES (7)")
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x)")
except sa.exc.IntegrityError:
    op.execute("DELETE FROM t")
    with op.get_context().autocommit_block():
        op.execute("INSERT INTO t VALUES (7)")
"""


def test_what_a_failed_block_has_done_is_not_taken_for_the_work_of_the_next(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x int)")
        connection.execute("INSERT INTO t VALUES (7)")
    project.written("a", body=FAILS_ONCE)
    code, report = finish(tidegate(*UP, project.config))
    assert (code, rows("SELECT x FROM t")) == (0, [(7,)]), report
