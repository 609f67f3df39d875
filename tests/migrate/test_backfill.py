"""`tidegate migrate backfill` on a real PostgreSQL, as a person or a Job runs it."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate
from tests.migrate.project import AlembicProject
from tidegate.schema import Failure
from tidegate_migrate.backfill.command import backfill
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.settings import Settings

Event = dict[str, Any]
STEPS = "[pace]\nbatch_rows = 20\nduty = 1\n"
"""Many batches, without a rest between them."""


class Backfills:
    """A project's backfills: declares them, runs them, reads what they say."""

    def __init__(
        self,
        project: AlembicProject,
        tidegate: Tidegate,
        database_url: str,
        printed: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = project.config.parent / "backfills"
        self.folder.mkdir()
        self.database_url = database_url
        self._config = project.config
        self._tidegate = tidegate
        self._printed = printed

    def declare(self, name: str, text: str) -> None:
        (self.folder / f"{name}.toml").write_text(text)

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Run it as a process."""
        return self._tidegate("backfill", "--config", self._config, *arguments, **environment)

    def run(
        self,
        name: str | None,
        *,
        restart: bool = False,
        dry_run: bool = False,
        as_json: bool = False,
        lock_timeout: float = 60.0,
    ) -> str:
        """Run it in this process; what it printed."""
        url = self.database_url
        settings = Settings(self._config, url, url, lock_timeout=lock_timeout)
        backfill(settings, name, restart=restart, dry_run=dry_run, as_json=as_json)
        return self._printed.readouterr().out

    def events(self, name: str) -> list[Event]:
        return [json.loads(line) for line in self.run(name, as_json=True).splitlines()]

    def refused(self, name: str, *, lock_timeout: float = 60.0) -> MigrateError:
        """Run what must fail; the failure, which is on stdout too."""
        with pytest.raises(MigrateError) as refused:
            self.run(name, as_json=True, lock_timeout=lock_timeout)
        *_, last = self._printed.readouterr().out.splitlines()
        assert json.loads(last) == {
            "event": "failed",
            "failure": refused.value.failure,
            "message": refused.value.message,
            "hint": refused.value.hint,
        }
        return refused.value

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def locked(self, row: int) -> Iterator[None]:
        """Another session changes a row of `t` and does not commit."""
        name = "the long report"
        with psycopg.connect(self.database_url, application_name=name) as connection:
            connection.execute("UPDATE t SET n = n WHERE id = %s", [row])
            yield
            connection.rollback()


@pytest.fixture
def backfills(
    project: AlembicProject,
    tidegate: Tidegate,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> Backfills:
    return Backfills(project, tidegate, database_url, capsys)


@pytest.fixture
def counted(backfills: Backfills) -> Backfills:
    """A table that counts how often each of its 1,000 rows was changed, and its backfill."""
    backfills.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)",
        "INSERT INTO t SELECT g FROM generate_series(1, 1000) g",
    )
    backfills.declare("count", f'table = "t"\nset = "n = n + 1"\n{STEPS}')
    return backfills


def until(condition: Callable[[], bool], words: str) -> None:
    """Wait for another process; fail with the words when it does not come to that."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never seen: {words}"
        time.sleep(0.02)


def said(run: subprocess.Popen[str], words: str) -> Event:
    """Read a run's JSON until an event holds the words."""
    assert run.stdout
    for one in run.stdout:
        if words in one:
            event: Event = json.loads(one)
            return event
    raise AssertionError(f"it ended without saying {words!r}: {run.communicate()}")


EACH_ROW_ONCE = "SELECT count(*), min(n), max(n) FROM t"
END_ITS_CONNECTION = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'tidegate backfill%'"
)


def test_every_row_is_changed_and_the_next_run_has_nothing_to_do(
    counted: Backfills, rows: Rows
) -> None:
    *_, finished = counted.events("count")
    assert (finished["event"], finished["rows_seen"], finished["rows_changed"]) == (
        "finished",
        1000,
        1000,
    )
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]
    *_, again = counted.events("count")
    assert (again["event"], again["before"]) == ("finished", True)
    assert "nothing to do" in counted.run("count")
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]
    said_at_the_end = counted.run("count", restart=True)
    assert "count: done, 1,000 rows, 1,000 changed, in " in said_at_the_end
    assert rows(EACH_ROW_ONCE) == [(1000, 2, 2)]


def test_a_backfill_that_is_killed_goes_on_where_it_was(counted: Backfills, rows: Rows) -> None:
    for row in (200, 400, 600):
        with counted.locked(row):
            run = counted.start("count", "--json")
            assert said(run, "rows are locked")["rows_seen"] < row
            run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
    *_, finished = counted.events("count")
    assert (finished["rows_seen"], finished["rows_changed"]) == (1000, 1000)
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_a_lost_connection_is_made_again_and_no_row_is_changed_twice(
    counted: Backfills, rows: Rows
) -> None:
    with counted.locked(500):
        run = counted.start("count", "--json")
        assert said(run, "rows are locked")
        assert rows(END_ITS_CONNECTION) == [(True,)]
        assert said(run, "connecting again")
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_a_frozen_run_that_wakes_up_late_changes_no_row_twice(
    counted: Backfills, rows: Rows
) -> None:
    with counted.locked(500):
        frozen = counted.start("count", "--json")
        assert said(frozen, "rows are locked")
        frozen.send_signal(signal.SIGSTOP)
    rows(END_ITS_CONNECTION)  # as the server does with an idle session, after a minute
    counted.run("count")
    frozen.send_signal(signal.SIGCONT)
    output, errors = frozen.communicate(timeout=60)
    assert frozen.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_of_two_runs_at_once_one_works_and_the_other_says_who(
    counted: Backfills, rows: Rows
) -> None:
    with counted.locked(500):
        first = counted.start("count", "--json")
        assert said(first, "rows are locked")
        refused = counted.refused("count", lock_timeout=0.1)
        assert refused.failure is Failure.LOCK_TIMEOUT
        assert "another run of the backfill count still holds the lock" in refused.message
        assert "tidegate backfill count" in refused.message
        patient = counted.start("count", "--json", "--lock-timeout", "60")
        assert said(patient, "held by tidegate backfill count")
    for run in (first, patient):
        output, errors = run.communicate(timeout=60)
        assert run.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_a_changed_declaration_is_refused_unless_it_begins_anew(
    counted: Backfills, rows: Rows
) -> None:
    counted.run("count")
    counted.declare("count", 'table = "t"\nset = "n = n + 1"\n# the pace is another now\n')
    assert counted.events("count")[-1]["before"]
    counted.declare("count", 'table = "t"\nset = "n = n + 10"\n')
    refused = counted.refused("count")
    assert refused.failure is Failure.INCOMPATIBLE
    assert "--restart" in refused.hint
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]
    counted.run("count", restart=True)
    assert rows(EACH_ROW_ONCE) == [(1000, 11, 11)]


@pytest.mark.parametrize(
    "columns",
    [
        "id uuid PRIMARY KEY DEFAULT gen_random_uuid()",
        "id text PRIMARY KEY DEFAULT chr(65 + (random() * 50)::int) || 'it''s % \"' || random()",
        "id timestamptz PRIMARY KEY DEFAULT now() + random() * interval '1 year'",
        "tenant int DEFAULT (random() * 3)::int, id bigserial, PRIMARY KEY (tenant, id)",
        'id smallserial PRIMARY KEY, "a % and a ""quote""" int',
    ],
    ids=["uuid", "text", "timestamptz", "composite", "smallint"],
)
def test_a_table_is_walked_along_a_key_of_any_type(
    columns: str, backfills: Backfills, rows: Rows
) -> None:
    backfills.sql(
        'CREATE SCHEMA "Odd %"',
        f'CREATE TABLE "Odd %"."t%t" ({columns}, n int NOT NULL DEFAULT 0)',
        'INSERT INTO "Odd %"."t%t" (n) SELECT 0 FROM generate_series(1, 500)',
    )
    backfills.declare("n", "table = '\"Odd %\".\"t%t\"'\nset = 'n = n + 5 % 4'\n" + STEPS)
    assert backfills.events("n")[-1]["rows_changed"] == 500
    assert rows('SELECT count(*), min(n), max(n) FROM "Odd %"."t%t"') == [(500, 1, 1)]


@pytest.mark.parametrize(
    "key",
    [
        # Around the hour that comes twice in autumn.
        "timestamptz '2026-10-25 00:30+00' + g * interval '1 min'",
        "1 + g * float8 '1e-15'",
    ],
    ids=["timestamptz", "float8"],
)
def test_how_a_database_writes_times_and_numbers_leaves_out_no_row(
    key: str, backfills: Backfills, rows: Rows
) -> None:
    name = backfills.database_url.rpartition("/")[2].partition("?")[0]
    backfills.sql(
        f"ALTER DATABASE {name} SET DateStyle = 'German'",
        f"ALTER DATABASE {name} SET TimeZone = 'Europe/Berlin'",
        f"ALTER DATABASE {name} SET extra_float_digits = -3",
        f"CREATE TABLE t AS SELECT {key} AS id, 0 AS n FROM generate_series(1, 100) g",  # noqa: S608
        "ALTER TABLE t ADD PRIMARY KEY (id)",
    )
    backfills.declare("n", f'table = "t"\nset = "n = n + 1"\n{STEPS}')
    backfills.run("n")
    assert rows(EACH_ROW_ONCE) == [(100, 1, 1)]
    assert "finished" in backfills.run(None)


def test_a_key_of_ones_own_must_reach_every_row_through_an_index(
    backfills: Backfills, rows: Rows
) -> None:
    backfills.sql(
        "CREATE TABLE t (a int NOT NULL, b int, n int NOT NULL DEFAULT 0)",
        "INSERT INTO t (a) SELECT g / 7 FROM generate_series(1, 100) g",
    )

    def refused(key: str) -> str:
        backfills.declare("n", f'table = "t"\nset = "n = n + 1"\nkey = {key}\n{STEPS}')
        return backfills.refused("n").message

    assert "has no primary key" in refused("[]")
    assert "has no column c" in refused('"c"')
    assert "may be NULL" in refused('"b"')
    assert "no index of t begins with a" in refused('"a"')
    backfills.sql("CREATE INDEX ON t (a)")
    backfills.run("n")  # rows that share a key are changed together
    assert rows("SELECT count(*), min(n), max(n) FROM t") == [(100, 1, 1)]
    backfills.declare("n", 'table = "nowhere"\nset = "n = n + 1"')
    assert "there is no table nowhere" in backfills.refused("n").message


def test_an_empty_table_is_done_at_once(backfills: Backfills, rows: Rows) -> None:
    backfills.sql("CREATE TABLE t (id int PRIMARY KEY, n int)")
    backfills.declare("n", 'table = "t"\nset = "n = 1"')
    assert backfills.events("n")[-1]["rows_seen"] == 0
    assert rows("SELECT finished_at IS NOT NULL FROM tidegate_backfills") == [(True,)]


def test_rows_that_come_in_at_the_end_are_reached_and_those_of_where_alone_are_changed(
    counted: Backfills, rows: Rows
) -> None:
    counted.declare("count", f'table = "t"\nset = "n = n + 1"\nwhere = "id % 2 = 0"\n{STEPS}')
    with counted.locked(500):
        run = counted.start("count", "--json")
        assert said(run, "rows are locked")
        counted.sql("INSERT INTO t SELECT g FROM generate_series(1001, 1100) g")
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, output + errors
    assert '"rows_seen": 1100, "rows_changed": 550' in output
    assert rows("SELECT n, count(*) FROM t WHERE id % 2 = 0 GROUP BY n") == [(1, 550)]
    assert rows("SELECT n, count(*) FROM t WHERE id % 2 = 1 GROUP BY n") == [(0, 550)]


def test_a_table_that_grows_as_fast_as_it_is_walked_does_not_keep_it_for_ever(
    backfills: Backfills, rows: Rows
) -> None:
    backfills.sql("CREATE TABLE t (id smallint PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    grow = "INSERT INTO t SELECT id + 1000 FROM t WHERE {batch}"
    backfills.declare("grow", f'table = "t"\nstatement = "{grow}"\n{STEPS}')
    assert backfills.events("grow")[-1]["rows_seen"] == 2
    assert rows("SELECT count(*) FROM t") == [(4,)]


def test_a_statement_of_ones_own_moves_rows_batch_by_batch(counted: Backfills, rows: Rows) -> None:
    counted.sql("CREATE TABLE elsewhere (id bigint PRIMARY KEY)")
    move = (
        "WITH gone AS (DELETE FROM t WHERE {batch} RETURNING id) "
        "INSERT INTO elsewhere SELECT id FROM gone"
    )
    counted.declare("move", f'table = "t"\nstatement = """{move};"""\n{STEPS}')
    assert counted.events("move")[-1]["rows_changed"] == 1000
    assert rows("SELECT (SELECT count(*) FROM t), count(*) FROM elsewhere") == [(0, 1000)]


def test_a_row_that_is_locked_is_waited_for_and_the_holder_is_named(
    counted: Backfills, rows: Rows
) -> None:
    with counted.locked(500):
        run = counted.start("count", "--json")
        paused = said(run, "the long report")
        assert "rows are locked, likely by the long report (backend " in paused["paused"]
        assert paused["rows_seen"] < 500
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_a_row_that_stays_locked_ends_the_run_and_nothing_is_lost(
    counted: Backfills, rows: Rows
) -> None:
    counted.declare("count", f'table = "t"\nset = "n = n + 1"\n{STEPS}patience = 0.5\n')
    with counted.locked(500):
        refused = counted.refused("count")
        assert refused.failure is Failure.LOCK_TIMEOUT
        assert "the long report" in refused.message
    assert rows("SELECT rows_seen FROM tidegate_backfills WHERE rows_seen < 500") != []
    counted.run("count")
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_it_pauses_while_too_many_sessions_are_active(counted: Backfills, rows: Rows) -> None:
    with psycopg.connect(counted.database_url) as other:
        other.pgconn.send_query(b"SELECT pg_sleep(600)")
        run = counted.start("count", "--json", "--max-active", "0")
        paused = said(run, '"paused": "')
        assert paused["paused"] == "1 active sessions (at most 0)"
        assert paused["rows_seen"] == 0
        other.cancel_safe()
        while other.pgconn.get_result():
            pass
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_it_pauses_while_a_receiver_of_the_wal_is_behind(counted: Backfills, rows: Rows) -> None:
    limits = "[limits]\nmax_lag_bytes = 1_048_576\n"
    counted.declare("count", f'table = "t"\nset = "n = n + 1"\n{limits}')
    with closing(Standby(counted.database_url)) as standby:
        standby.has_replayed(1)
        run = counted.start("count", "--json")
        paused = said(run, "standby-a is ")
        assert paused["paused"].endswith(" of WAL behind (at most 1.0 MiB)")
        assert paused["rows_seen"] == 0
        standby.has_replayed(2**62)
        output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, output + errors
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


class Standby:
    """A receiver of the server's WAL, as far as the server can tell."""

    def __init__(self, database_url: str) -> None:
        url = f"{database_url}&replication=true&application_name=standby-a"
        self._server = psycopg.pq.PGconn.connect(url.encode())
        where = self._server.exec_(b"IDENTIFY_SYSTEM").get_value(0, 2)
        assert where
        started = self._server.exec_(b"START_REPLICATION PHYSICAL " + where)
        assert started.status == psycopg.pq.ExecStatus.COPY_BOTH

    def has_replayed(self, place: int) -> None:
        """Tell the server how far it is."""
        self._server.put_copy_data(struct.pack("!cQQQqB", b"r", place, place, place, 0, 0))
        self._server.flush()

    def close(self) -> None:
        self._server.finish()


def test_a_role_that_cannot_see_others_is_told_what_it_lacks(
    counted: Backfills, database_url: str, postgres: str
) -> None:
    role = f"modest_{os.getpid()}_{time.monotonic_ns()}"
    counted.sql(f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON t TO {role}")
    counted.sql(f"GRANT CREATE ON SCHEMA public TO {role}")
    modest = database_url.replace("postgres@", f"{role}@")
    run = counted.start("count", DATABASE_URL=modest)
    output, errors = run.communicate(timeout=60)
    counted.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert run.returncode == 0, output + errors
    assert "pg_read_all_stats" in errors


def test_a_terminated_run_ends_within_its_statement_and_says_how_far_it_is(
    counted: Backfills, rows: Rows
) -> None:
    counted.declare(
        "slow",
        'table = "t"\nset = "n = n + 1"\nwhere = "id < 50 OR pg_sleep(60) IS NULL"\n'
        "[pace]\nbatch_rows = 40\nstatement_timeout = 600\n",
    )
    run = counted.start("slow")
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    until(lambda: rows(sleeping) == [(1,)], "the statement")
    started = time.monotonic()
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert run.returncode == 143
    assert "told to stop with 40 rows done" in errors
    assert rows(sleeping) == [(0,)]
    assert rows("SELECT count(*) FROM t WHERE n = 1") == [(40,)]


def test_a_row_that_cannot_be_changed_ends_the_run_and_the_rows_before_it_stay_changed(
    counted: Backfills, rows: Rows
) -> None:
    counted.sql("ALTER TABLE t ADD CHECK (id <> 500 OR n = 0) NOT VALID")
    refused = counted.refused("count")
    assert refused.failure is Failure.MIGRATION_ERROR
    assert "CheckViolation" in refused.message
    done = rows("SELECT rows_seen FROM tidegate_backfills")
    assert rows("SELECT count(*) FROM t WHERE n = 1") == done
    counted.sql("ALTER TABLE t DROP CONSTRAINT t_check")
    counted.run("count")
    assert rows(EACH_ROW_ONCE) == [(1000, 1, 1)]


def test_a_batch_that_takes_too_long_is_tried_smaller(backfills: Backfills, rows: Rows) -> None:
    backfills.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)",
        "INSERT INTO t SELECT g FROM generate_series(1, 60) g",
    )
    slow = "n = n + 1 + length(pg_sleep(0.01)::text)"
    pace = "[pace]\nstatement_timeout = 0.3\nbatch_seconds = 0.1\nduty = 1\n"
    backfills.declare("slow", f'table = "t"\nset = "{slow}"\n{pace}')
    events = backfills.events("slow")
    assert any("took too long" in str(event.get("paused")) for event in events)
    assert rows("SELECT count(*), min(n), max(n) FROM t") == [(60, 1, 1)]


def test_a_dry_run_shows_the_statements_and_changes_nothing(counted: Backfills, rows: Rows) -> None:
    output = counted.run("count", dry_run=True)
    assert "UPDATE t\nSET n = n + 1\nWHERE (t.id) <= (:upto_0::bigint)" in output
    assert "Update on t" in output
    assert rows(EACH_ROW_ONCE) == [(1000, 0, 0)]
    assert rows("SELECT to_regclass('tidegate_backfills')") == [(None,)]


def test_a_batch_is_found_by_the_index_where_statistics_take_it_for_most_of_the_table(
    backfills: Backfills,
) -> None:
    backfills.sql(
        "CREATE TABLE t (tenant int, id int, n int, PRIMARY KEY (tenant, id))",
        "INSERT INTO t SELECT 1, g FROM generate_series(1, 20000) g",
        "VACUUM ANALYZE t",
    )
    backfills.declare("n", 'table = "t"\nset = "n = 1"\n')
    output = backfills.run("n", dry_run=True)
    assert "Index" in output
    assert "Seq Scan" not in output


def test_without_a_name_it_lists_what_is_declared_and_how_far_each_is(
    counted: Backfills,
) -> None:
    counted.declare("later", 'table = "t"\nset = "n = 0"')
    counted.run("count")
    count, later = counted.run(None).splitlines()[-2:]
    assert count.startswith("count  finished 20")
    assert count.endswith("1,000 rows, 1,000 changed")
    assert later == "later  not begun"
    assert "there is no backfill 'lost'" in counted.refused("lost").message


CALLED = """
from alembic import op
from tidegate_migrate.backfill.revision import backfill
revision, down_revision = {revision!r}, {below!r}
def upgrade():
    op.execute("ALTER TABLE t ADD {revision} int")
    {call}
"""


def test_a_revision_may_run_a_backfill_outside_of_its_transaction_only(
    counted: Backfills, project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    versions = project.config.parent / "versions"
    within = 'with op.get_context().autocommit_block():\n        backfill("fill")'
    counted.declare("fill", 'table = "t"\nset = "a = n + 1"\nwhere = "a IS NULL"')
    (versions / "a.py").write_text(CALLED.format(revision="a", below=None, call=within))
    up = tidegate("up", "--config", project.config)
    output, errors = up.communicate(timeout=60)
    assert up.returncode == 0, output + errors
    assert rows("SELECT a, count(*) FROM t GROUP BY a") == [(1, 1000)]
    with psycopg.connect(
        counted.database_url, autocommit=True
    ) as connection:  # as a downgrade does
        connection.execute("ALTER TABLE t DROP a; DELETE FROM alembic_version")
    up = tidegate("up", "--config", project.config)
    output, errors = up.communicate(timeout=60)
    assert up.returncode == 0, output + errors
    assert rows("SELECT a, count(*) FROM t GROUP BY a") == [(1, 1000)]
    (versions / "b.py").write_text(CALLED.format(revision="b", below="a", call='backfill("count")'))
    up = tidegate("up", "--config", project.config)
    _, errors = up.communicate(timeout=60)
    assert up.returncode == 2
    assert "autocommit_block" in errors
    assert rows(EACH_ROW_ONCE) == [(1000, 0, 0)]
