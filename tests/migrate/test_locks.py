"""A migration waits for others without stopping them: time-outs, tries, and what they leave."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tidegate.schema import Failure
from tidegate_migrate.indexes import invalid_after, invalid_before, waits_without_blocking
from tidegate_migrate.patience import Patience, sqlstate

ASYNCPG_ENV = (
    "from alembic import context\n"
    "url = context.config.get_main_option('sqlalchemy.url').replace('+psycopg', '+asyncpg')\n"
    "context.config.set_main_option('sqlalchemy.url', url.replace('%', '%%'))\n" + ASYNC_ENV
)
ENVS = pytest.mark.parametrize(
    "env", [SYNC_ENV, ASYNC_ENV, ASYNCPG_ENV], ids=["psycopg", "async psycopg", "asyncpg"]
)
INDEX = (
    "with op.get_context().autocommit_block():\n"
    "    op.create_index('t_x', 't', ['x'], unique=True, postgresql_concurrently=True)"
)
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_x'::regclass"


@pytest.fixture
def reader(database_url: str) -> Iterator[psycopg.Connection]:
    """Somebody who has read the table `t` and keeps the transaction open."""
    with psycopg.connect(database_url, application_name="a long report") as connection:
        connection.execute("CREATE TABLE t (x int)")
        connection.commit()
        connection.execute("SELECT * FROM t")
        yield connection


@ENVS
def test_ddl_behind_a_long_reader_lets_others_through_and_gets_there_in_the_end(
    env: str,
    tmp_path: Path,
    tidegate: Tidegate,
    reader: psycopg.Connection,
    database_url: str,
    rows: Rows,
) -> None:
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="ALTER TABLE t ADD y int")
    project.revision("b", "a", sql="ALTER TABLE t ADD z int")
    run = tidegate("up", "--config", project.config, "--json", "--ddl-lock-timeout", "0.3")
    lines_until(run, "waiting for a lock held by a long report (backend")
    lines_until(run, "a did not get its locks and was taken back")
    with psycopg.connect(database_url) as other:  # nobody queues behind it meanwhile
        other.execute("SET statement_timeout = '1s'")
        other.execute("SELECT * FROM t")
    reader.rollback()
    ended = time.monotonic()
    code, report = finish(run)
    assert time.monotonic() - ended < 8  # the pause ends with what it is for
    assert (code, report.heads) == (0, ("b",))
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(2,)]


@pytest.mark.parametrize("after", ["SET lock_timeout = '60s'", "RESET ALL"])
def test_what_env_py_sets_once_it_is_configured_lets_nobody_wait_for_longer(
    after: str, tmp_path: Path, tidegate: Tidegate, reader: psycopg.Connection
) -> None:
    sets = f"    with context.begin_transaction():\n        context.execute({after!r})\n"
    env = SYNC_ENV.replace("    with context.begin_transaction():\n", sets)
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="ALTER TABLE t ADD y int")
    run = tidegate("up", "--config", project.config, "--json")
    lines_until(run, "a did not get its locks and was taken back")
    reader.rollback()
    assert finish(run)[0] == 0


def test_there_is_no_queueing_without_a_bound(project: AlembicProject, tidegate: Tidegate) -> None:
    project.revision("a")
    run = tidegate("up", "--config", project.config, "--ddl-lock-timeout", "0")
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, "0.01 or more" in errors) == (2, True)
    run = tidegate("up", "--config", project.config, "--json", TIDEGATE_DDL_LOCK_TIMEOUT="")
    assert finish(run)[0] == 0


def test_a_partition_that_is_read_is_detached_without_keeping_its_readers_waiting(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE whole (x int) PARTITION BY LIST (x)")
    project.revision("b", "a", sql="CREATE TABLE part PARTITION OF whole FOR VALUES IN (1)")
    up = ("up", "--config", project.config, "--json", "--nobody-runs-older", "--phase", "all")
    assert finish(tidegate(*up))[0] == 0
    detach = "op.execute('ALTER TABLE whole DETACH PARTITION part CONCURRENTLY')"
    body = f"with op.get_context().autocommit_block():\n    {detach}"
    project.written("c", "b", phase="contract", body=body)
    with psycopg.connect(database_url) as reader, psycopg.connect(database_url) as other:
        reader.execute("SELECT FROM part")
        run = tidegate(*up, "--ddl-lock-timeout", "0.3")
        other.execute("SET statement_timeout = '2s'")
        for _ in range(2):
            lines_until(run, "c did not get its locks")
            other.execute("SELECT FROM part")
            other.rollback()
        reader.rollback()
        assert finish(run)[0] == 0
    assert rows("SELECT FROM pg_inherits") == []


def test_an_env_py_that_waits_for_a_lock_of_its_own_is_given_up(
    tmp_path: Path, tidegate: Tidegate, database_url: str
) -> None:
    waits = (
        "    connection.exec_driver_sql('SELECT pg_advisory_lock(42)')\n    connection.commit()\n"
    )
    env = SYNC_ENV.replace("    context.configure", f"{waits}    context.configure")
    project = AlembicProject(tmp_path / "project", env).revision("a")
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT pg_advisory_lock(42)")
        run = tidegate("up", "--config", project.config, "--json", "--deadline", "2")
        code, report = finish(run)
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert "env.py has not come to its migrations within 2 s" in report.message
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0


def test_a_lock_that_never_comes_free_is_given_up_and_its_holder_named(
    project: AlembicProject, tidegate: Tidegate, reader: psycopg.Connection, rows: Rows
) -> None:
    project.revision("a", sql="ALTER TABLE t ADD y int")
    started = time.monotonic()
    code, report = finish(tidegate("up", "--config", project.config, "--json", "--deadline", "3"))
    assert time.monotonic() - started < 12
    assert (code, report.failure, report.revision) == (3, Failure.LOCK_TIMEOUT, "a")
    assert f"a long report (backend {reader.info.backend_pid}, idle in tra" in report.message
    assert report.applied == ()


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE t ADD y int", "CREATE INDEX CONCURRENTLY t_x ON t (x)"],
)
def test_the_deadline_is_one_for_a_statement_that_stands_alone_as_well(
    statement: str, project: AlembicProject, tidegate: Tidegate, reader: psycopg.Connection
) -> None:
    body = f"with op.get_context().autocommit_block():\n    op.execute({statement!r})"
    project.written("a", body=body)
    reader.execute("INSERT INTO t VALUES (1)")
    run = tidegate("up", "--config", project.config, "--json", "--deadline", "3")
    lines_until(run, "waiting for a lock held by a long report")
    waiting = time.monotonic()
    code, report = finish(run)
    assert time.monotonic() - waiting < 5.5
    assert (code, report.failure, report.revision) == (3, Failure.LOCK_TIMEOUT, "a")
    assert "within 3 s" in report.message
    assert "in its way: a long report" in report.message


def test_what_comes_behind_a_block_has_the_deadline_for_itself(
    project: AlembicProject, tidegate: Tidegate, reader: psycopg.Connection, database_url: str
) -> None:
    body = """
op.execute("ALTER TABLE t ADD y int")
with op.get_context().autocommit_block():
    op.execute("SELECT pg_sleep(2.5)")
op.execute("ALTER TABLE u ADD y int")
"""
    project.written("a", body=body)
    with psycopg.connect(database_url) as another:
        another.execute("CREATE TABLE u (x int)")
        another.commit()
        another.execute("SELECT FROM u")
        run = tidegate("up", "--config", project.config, "--json", "--deadline", "2")
        lines_until(run, "a did not get its locks and was taken back")
        reader.rollback()
        lines_until(run, "a did not get its locks and was taken back")
    code, report = finish(run)
    assert (code, report.heads) == (0, ("a",)), report


def test_a_statement_that_takes_too_long_is_cancelled_and_told_how_to_declare_it(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a", sql="SELECT pg_sleep(20)")
    up = ("up", "--config", project.config, "--json", "--statement-timeout", "0.5")
    code, report = finish(tidegate(*up))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "a")
    assert 'statement_timeout = "off"' in report.hint


def test_a_declared_statement_timeout_holds_for_its_revision_only(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    note = "INSERT INTO seen VALUES (current_setting('statement_timeout'))"
    project.revision("a", sql=f"CREATE TABLE seen (x text); {note}")
    for name, below, declared in (("b", "a", '"off"'), ("c", "b", "90.5"), ("d", "c", "None")):
        project.written(
            name, below, head=f"statement_timeout = {declared}", body=f"op.execute({note!r})"
        )
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert rows("SELECT x FROM seen") == [("30s",), ("0",), ("90500ms",), ("30s",)]


@ENVS
def test_settings_that_a_revision_leaves_behind_take_no_protection_off_the_next(
    env: str, tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", env)
    project.revision("a", sql="CREATE TABLE seen (x text)")
    bare = "SET lock_timeout = 0"
    project.written("b", "a", body=f"op.get_bind().exec_driver_sql({bare!r})")
    note = "INSERT INTO seen VALUES (current_setting('lock_timeout'))"
    project.revision("c", "b", sql=note).revision("d", "c", sql="RESET ALL")
    project.revision("e", "d", sql=note)
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert rows("SELECT x FROM seen") == [("100ms",)] * 2


def test_a_transaction_timeout_that_the_database_has_does_not_end_a_revision(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a", sql="SELECT pg_sleep(0.6)")
    with psycopg.connect(database_url, autocommit=True) as connection:
        [name] = connection.execute("SELECT current_database()").fetchone() or [""]
        connection.execute(f"ALTER DATABASE {name} SET transaction_timeout = '300ms'".encode())
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("a",)), report


def test_an_idle_session_timeout_that_the_database_has_does_not_end_a_run_that_computes(
    tmp_path: Path, tidegate: Tidegate, database_url: str
) -> None:
    # The first look at env.py is short; in the run itself the runner's own connection waits for it.
    env = (
        "import os, time\n"
        "time.sleep(1.5 * int(os.environ.get('LOOKED', '0')))\nos.environ['LOOKED'] = '1'\n"
    )
    project = AlembicProject(tmp_path / "project", env + SYNC_ENV)
    body = "import time\nwith op.get_context().autocommit_block():\n    time.sleep(1.5)"
    project.written("a", body=body)
    with psycopg.connect(database_url, autocommit=True) as connection:
        [name] = connection.execute("SELECT current_database()").fetchone() or [""]
        connection.execute(f"ALTER DATABASE {name} SET idle_session_timeout = '1s'".encode())
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("a",)), report


def test_patience_is_for_the_statement_that_is_run_concurrently_and_no_other(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE seen (x text)")
    note = "INSERT INTO seen SELECT current_setting('statement_timeout')"
    body = f"""
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY seen_x ON seen (x)")
    op.get_bind().exec_driver_sql("{note}")
    op.execute("{note} -- not CONCURRENTLY")
"""
    project.written("b", "a", body=body)
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert rows("SELECT x FROM seen") == [("30s",)] * 2


def test_a_statement_timeout_that_is_none_is_refused_before_anything_runs(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.written("a", head='statement_timeout = "long"', body="pass")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert 'or "off"' in report.hint


@ENVS
def test_an_index_left_invalid_by_an_earlier_try_is_dropped_and_built_again(
    env: str, tmp_path: Path, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", env).written("a", body=INDEX)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x int)")
        connection.execute("INSERT INTO t VALUES (1), (1)")
        code, report = finish(tidegate("up", "--config", project.config, "--json"))
        assert (code, report.revision) == (1, "a"), report
        assert rows(IS_VALID) == [(False,)]
        connection.execute("TRUNCATE t")
    code, _ = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, rows(IS_VALID)) == (0, [(True,)])


def test_an_index_that_somebody_else_has_made_is_no_work_of_an_earlier_run(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.written("a", body=INDEX)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x int)")
        connection.execute("CREATE INDEX t_x ON t (x)")
    for _ in range(2):  # what failed once is not taken for done the second time
        code, report = finish(tidegate("up", "--config", project.config, "--json"))
        assert (code, report.failure) == (1, Failure.MIGRATION_ERROR)
        assert '"t_x" already exists' in report.message


def test_an_index_built_concurrently_waits_for_an_old_transaction_longer_than_any_time_out(
    project: AlembicProject, tidegate: Tidegate, reader: psycopg.Connection, rows: Rows
) -> None:
    reader.execute("INSERT INTO t VALUES (1)")
    project.written("a", body=INDEX)
    up = ("up", "--config", project.config, "--json", "--deadline", "60")
    run = tidegate(*up, "--ddl-lock-timeout", "0.2", "--statement-timeout", "0.5")
    lines_until(run, "waiting for a lock held by a long report")
    time.sleep(1)  # longer than both
    reader.rollback()
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, rows(IS_VALID)) == (0, [(True,)])
    assert "taken back" not in errors


def test_a_half_done_revision_whose_file_was_changed_is_refused_with_the_way_out(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    body = (
        "op.execute('CREATE TABLE t (x int)')\n"
        "with op.get_context().autocommit_block():\n    op.execute('SELECT 1/0')"
    )
    project.written("a", body=body)
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 1
    project.written("a", body=body.replace("x int", "x bigint"))
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "a")
    assert "its file no longer begins with them" in report.message
    assert 'delete the revision\'s row from "public"."tidegate_unfinished"' in report.hint
    project.written("a", body=body.replace("1/0", "1/1"))
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0


def lines_until(run: subprocess.Popen[str], words: str) -> None:
    """Read what a run says up to the line with these words."""
    assert run.stderr
    told: list[str] = []
    for line in run.stderr:
        told.append(line)
        if words in line:
            return
    raise AssertionError("".join(told))


@given(
    deadline=st.floats(0, 1000),
    chances=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50),
)
def test_patience_never_lasts_past_its_deadline_and_waits_longer_each_time(
    deadline: float, chances: list[float]
) -> None:
    now = 0.0
    drawn = iter(chances)
    patience = Patience(deadline, lambda: now, lambda: next(drawn))
    steps: list[float] = []
    for _ in chances:
        pause = patience.pause()
        if pause is None:
            assert now >= deadline
            return
        steps.append(pause)
        now += pause
        assert now <= deadline * (1 + 1e-9)
    for number, pause in enumerate(steps[:-1]):
        step = min(15.0, 0.5 * 2**number)
        assert step / 2 <= pause <= step


def test_the_error_code_is_found_however_deep_it_was_wrapped() -> None:
    def raised(error: Callable[[], BaseException]) -> BaseException:
        try:
            try:
                raise psycopg.errors.LockNotAvailable("x")
            except psycopg.Error as cause:
                raise error() from cause
        except BaseException as outer:
            return outer

    assert sqlstate(raised(lambda: RuntimeError("y"))) == "55P03"
    assert sqlstate(RuntimeError("z")) == ""


@pytest.mark.parametrize(
    ("statement", "name", "table"),
    [
        ("CREATE INDEX CONCURRENTLY a ON t (x)", "'a'", "'t'"),
        ("create unique index concurrently If Not Exists A on only s.T (x)", "'a'", "'s.T'"),
        (
            '-- why\n/* so */ CREATE INDEX CONCURRENTLY "a ""b" ON "S"."t x" (y)',
            "'a \"b'",
            '\'"S"."t x"\'',
        ),
        ("REINDEX INDEX CONCURRENTLY s.t_x", "", "indexrelid = to_regclass('s.t_x')"),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "", "t.oid = to_regclass('t')"),
    ],
)
def test_what_a_statement_may_find_left_by_an_earlier_try_is_known_by_name_and_table(
    statement: str, name: str, table: str
) -> None:
    assert name in invalid_before(statement)
    assert table in invalid_before(statement)
    assert not invalid_after(statement)
    assert waits_without_blocking(statement)


def test_an_index_without_a_name_shows_what_was_left_of_it_only_when_it_is_built() -> None:
    statement = "CREATE INDEX CONCURRENTLY ON only_one (x)"
    assert not invalid_before(statement)
    assert "to_regclass('only_one')" in invalid_after(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX concurrently if exists s.t_x",
        "reindex index CONCURRENTLY t_x",
        "REINDEX (VERBOSE, CONCURRENTLY) TABLE t",
        "REINDEX (TABLESPACE x) TABLE CONCURRENTLY t",
        "/* why */ REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ],
)
def test_what_runs_concurrently_may_wait_long(statement: str) -> None:
    assert waits_without_blocking(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD y int -- CONCURRENTLY is for the index",
        "-- CREATE INDEX CONCURRENTLY\nALTER TABLE t ADD y int",
        "ALTER TABLE t RENAME TO concurrently",
        "COMMENT ON TABLE t IS 'built CONCURRENTLY'",
        'ALTER TABLE IF EXISTS s.t DETACH PARTITION "t 1" CONCURRENTLY',
    ],
)
def test_to_speak_of_concurrently_is_not_to_be_it(statement: str) -> None:
    assert not waits_without_blocking(statement)


@pytest.mark.parametrize(
    "statement", ["CREATE INDEX a ON t (x)", "REINDEX TABLE t", "SELECT 'concurrently'", ""]
)
def test_other_statements_leave_nothing_behind(statement: str) -> None:
    assert not invalid_before(statement)
    assert not invalid_after(statement)
