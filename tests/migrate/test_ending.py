"""SIGTERM: the statement is cancelled, the lock is free, the report is written, within 5 s."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tests.migrate.test_locks import ASYNCPG_ENV
from tidegate.schema import Failure

SLEEPING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event = 'PgSleep' AND datname = current_database()"
)
LOCKED = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
IN_SQL = "op.execute('SELECT pg_sleep(60)')"
ALONE = f"with op.get_context().autocommit_block():\n    {IN_SQL}"
# As a driver does that waits for the server in C, where no Python runs: psycopg2, for one.
IN_C = (
    "connection = op.get_bind().connection.driver_connection\n"
    "connection.pgconn.exec_(b'SELECT pg_sleep(60)')"
)
STUBBORN = f"try:\n    {IN_SQL}\nexcept BaseException:\n    __import__('time').sleep(60)"


@pytest.mark.parametrize(
    ("env", "body"),
    [
        (SYNC_ENV, IN_SQL),
        (ASYNC_ENV, IN_SQL),
        (ASYNCPG_ENV, IN_SQL),
        (SYNC_ENV, ALONE),
        (SYNC_ENV, IN_C),
        (SYNC_ENV, STUBBORN),
    ],
    ids=["psycopg", "async psycopg", "asyncpg", "autocommit", "waits in C", "does not give up"],
)
def test_a_terminated_run_is_gone_within_five_seconds_and_the_next_one_works(
    env: str, body: str, tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    message = tmp_path / "termination-log"
    project = AlembicProject(tmp_path / "project", env)
    project.written("a", body=f"op.execute('CREATE TABLE t (x int)')\n{body}")
    run = tidegate("up", "--config", project.config, "--json", "--report", message)
    deadline = time.monotonic() + 20
    while rows(SLEEPING) == [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = time.monotonic()
    run.send_signal(signal.SIGTERM)
    code, report = finish(run)
    assert time.monotonic() - started < 5
    assert (code, report.failure) == (143, Failure.TERMINATED)
    assert report.revision == "a"
    assert message.read_text() == report.to_json()
    assert rows(LOCKED) == [(0,)]
    project.written("a", body="op.execute('CREATE TABLE t (x int)')")
    if body is ALONE:  # its block has committed the table
        project.written(
            "a", body=f"op.execute('CREATE TABLE t (x int)')\n{ALONE}".replace("60", "0")
        )
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("a",)), report
    assert rows(SLEEPING) == [(0,)]


@pytest.mark.parametrize("command", ["status", "plan", "wait", "manifest"])
def test_a_command_that_only_looks_is_told_to_stop_while_env_py_or_a_revision_runs(
    command: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    slow = "import sys, time\nprint('here', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    project = AlembicProject(tmp_path / "project", slow + SYNC_ENV)
    project.written("a", head=slow if command == "manifest" else "", body="pass")
    run = tidegate(command, "--config", project.config)
    assert run.stderr
    assert run.stderr.readline() == "here\n"
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=10)
    assert (run.returncode, errors) == (143, "told to stop; nothing was changed\n")


def test_a_run_that_waits_for_the_lock_ends_at_once(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="SELECT pg_sleep(25)")
    first = tidegate("up", "--config", project.config, "--json")
    while rows(LOCKED) == [(0,)]:
        time.sleep(0.05)
    second = tidegate("up", "--config", project.config, "--json")
    assert second.stderr
    assert "for the migration lock" in second.stderr.readline()
    started = time.monotonic()
    second.send_signal(signal.SIGTERM)
    assert finish(second)[0] == 143
    assert time.monotonic() - started < 5
    assert first.poll() is None, "it has nothing to do with the end of the other"
    first.send_signal(signal.SIGTERM)
    assert finish(first)[0] == 143
