"""`tidegate migrate up` on a real PostgreSQL, as the Job runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, clean_environment, finish
from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tests.migrate.test_locks import ASYNCPG_ENV
from tests.postgres import create_database, drop_database
from tidegate.schema import Failure, Outcome, Phase, Report, Verdict
from tidegate_migrate.lock import LOCK_KEY


@pytest.mark.parametrize("env", [SYNC_ENV, ASYNC_ENV], ids=["sync env.py", "async env.py"])
def test_an_empty_database_is_brought_to_the_head_with_one_history_row_each(
    env: str, tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", env)
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.revision("b", "a", sql="ALTER TABLE t ADD y int", phase="contract")
    run = tidegate("up", "--config", project.config, "--json", TIDEGATE_IMAGE="shop:1")
    code, report = finish(run)
    assert (code, report.outcome, report.verdict) == (0, Outcome.DONE, Verdict.CURRENT)
    assert [(done.id, done.phase) for done in report.applied] == [
        ("a", Phase.EXPAND),
        ("b", Phase.CONTRACT),
    ]
    assert report.heads == ("b",)
    assert rows(
        "SELECT revision, phase, down, image, length(checksum), duration_seconds < 60 "
        "FROM tidegate_schema_history ORDER BY revision"
    ) == [("a", "expand", [], "shop:1", 64, True), ("b", "contract", ["a"], "shop:1", 64, True)]
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.outcome, report.applied) == (0, Outcome.NOTHING_TO_DO, ())


def test_a_failing_revision_leaves_neither_schema_nor_version_nor_history_of_its_own(
    project: AlembicProject, tidegate: Tidegate, rows: Rows, tmp_path: Path
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.revision("b", "a", sql="ALTER TABLE t ADD y int; ALTER TABLE nowhere ADD z int")
    message = tmp_path / "termination-log"
    run = tidegate("up", "--config", project.config, "--report", message)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert "revision b failed" in errors
    assert 'relation "nowhere" does not exist' in errors
    report = Report.from_json(message.read_text())
    assert (report.failure, report.revision) == (Failure.MIGRATION_ERROR, "b")
    assert [done.id for done in report.applied] == ["a"]
    assert (report.heads, report.verdict) == (("a",), Verdict.BEHIND)
    assert rows("SELECT version_num FROM alembic_version") == [("a",)]
    assert rows("SELECT revision FROM tidegate_schema_history") == [("a",)]
    assert rows("SELECT count(*) FROM information_schema.columns WHERE table_name = 't'") == [(1,)]


def test_a_contract_revision_waits_until_somebody_says_that_nothing_older_runs(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    up = ("up", "--config", project.config, "--json")
    project.revision("a")
    assert finish(tidegate(*up))[0] == 0
    project.revision("b", "a").revision("c", "b", phase="contract")
    code, report = finish(tidegate(*up))
    assert (code, report.verdict) == (0, Verdict.CONTRACT_PENDING)
    assert [done.id for done in report.applied] == ["b"]
    code, report = finish(tidegate(*up, "--phase", "contract"))
    assert (code, report.failure) == (4, Failure.INCOMPATIBLE)
    assert "--nobody-runs-older" in report.hint
    code, report = finish(tidegate(*up, "--phase", "contract", "--nobody-runs-older"))
    assert (code, report.verdict, report.heads) == (0, Verdict.CURRENT, ("c",))


def test_an_expand_revision_above_a_pending_contract_one_names_the_release_to_go_first(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    project.revision("b", "a", phase="contract").revision("c", "b")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (4, Failure.INCOMPATIBLE, "b")
    assert "release b first" in report.hint


@pytest.mark.parametrize(
    ("phase", "code", "verdict"),
    [("expand", 0, Verdict.AHEAD_COMPATIBLE), ("contract", 4, Verdict.AHEAD_INCOMPATIBLE)],
)
def test_an_older_image_is_told_whether_the_newer_schema_lets_it_run(
    phase: str,
    code: int,
    verdict: Verdict,
    tmp_path: Path,
    tidegate: Tidegate,
    rows: Rows,
) -> None:
    old = AlembicProject(tmp_path / "old").revision("a")
    new = AlembicProject(tmp_path / "new").revision("a").revision("b", "a", phase=phase)
    assert finish(tidegate("up", "--config", new.config, "--json"))[0] == 0
    result, report = finish(tidegate("up", "--config", old.config, "--json"))
    assert (result, report.verdict) == (code, verdict)
    assert list(report.ahead) == ["b"]
    if code:
        assert report.revision == "b"
        assert "release an image that ships b" in report.hint
    assert rows("SELECT version_num FROM alembic_version") == [("b",)]


def test_of_twenty_runners_started_at_once_one_migrates_and_none_errs(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int); SELECT pg_sleep(1)")
    running = [tidegate("up", "--config", project.config, "--json") for _ in range(20)]
    reports = [finish(run) for run in running]
    assert [code for code, _ in reports] == [0] * 20
    outcomes = sorted(report.outcome for _, report in reports)
    assert outcomes == [Outcome.DONE, *[Outcome.NOTHING_TO_DO] * 19]
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(1,)]


def test_a_lock_that_does_not_come_free_names_its_holder(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a")
    with psycopg.connect(
        database_url, autocommit=True, application_name="the other runner"
    ) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        run = tidegate("up", "--config", project.config, "--json", "--lock-timeout", "1")
        code, report = finish(run)
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert "the other runner" in report.message


def test_a_lock_that_another_role_holds_is_told_as_far_as_it_can_be_seen(
    project: AlembicProject, tidegate: Tidegate, database_url: str, postgres: str
) -> None:
    project.revision("a")
    role = f"plain_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute(f"CREATE ROLE {role} LOGIN".encode())
        holder.execute(f"GRANT ALL ON SCHEMA public TO {role}".encode())
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        plain = database_url.replace("//postgres", f"//{role}", 1)
        assert plain != database_url
        up = ("up", "--config", project.config, "--json", "--lock-timeout", "0.5")
        code, report = finish(tidegate(*up, DATABASE_URL=plain))
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
        assert f"(backend {holder.info.backend_pid})" in report.message
        holder.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_a_revision_that_lint_refuses_is_not_applied_and_neither_are_those_before_it(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int, y int)")
    up = ("up", "--config", project.config, "--json")
    assert finish(tidegate(*up))[0] == 0  # an empty database has nobody who could be hurt
    project.revision("b", "a").revision("c", "b", sql="ALTER TABLE t DROP y")
    code, report = finish(tidegate(*up))
    assert (code, report.failure, report.revision) == (6, Failure.LINT, "c")
    assert "c.py:" in report.message
    assert "lint_ignore" in report.hint
    assert (report.heads, report.applied) == (("a",), ())


def test_branches_and_their_merge_are_applied_whole(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a").revision("b1", "a").revision("b2", "a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("b1", "b2"))
    project.revision("m", "b1", "b2")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("m",))
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(4,)]


def test_a_terminated_run_cancels_its_statement_and_says_so(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int); SELECT pg_sleep(60)")
    run = tidegate("up", "--config", project.config, "--json")
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    deadline = time.monotonic() + 20
    while rows(sleeping) == [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    started = time.monotonic()
    run.send_signal(signal.SIGTERM)
    code, report = finish(run)
    assert time.monotonic() - started < 5
    assert (code, report.failure, report.revision) == (143, Failure.TERMINATED, "a")
    assert rows(sleeping) == [(0,)]
    assert rows("SELECT to_regclass('t')") == [(None,)]


def test_without_database_url_it_says_what_to_set(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    code, report = finish(tidegate("up", "--config", project.config, "--json", DATABASE_URL=""))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "DATABASE_URL is not set" in report.message
    assert "postgresql://" in report.hint


def test_a_wrong_password_fails_at_once_and_is_not_repeated(
    project: AlembicProject, tidegate: Tidegate, database_url: str, password_login: str
) -> None:
    wrong = database_url.replace("postgres@", f"{password_login}:not-the-password@")
    run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=wrong)
    started = time.monotonic()
    output, errors = run.communicate(timeout=120)
    assert time.monotonic() - started < 10
    report = Report.from_json(output)
    assert (run.returncode, report.failure) == (2, Failure.SETTINGS)
    assert password_login in report.message
    assert "not-the-password" not in output + errors


def test_a_database_that_is_not_there_yet_is_waited_for(
    project: AlembicProject, tidegate: Tidegate, database_url: str, postgres: str
) -> None:
    project.revision("a")
    name = "late_" + database_url.partition("test_")[2].partition("?")[0]
    late = database_url.replace(database_url.partition("@/")[2].partition("?")[0], name)
    run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=late)
    time.sleep(1.5)
    create_database(postgres, name)
    try:
        code, report = finish(run)
        assert (code, report.outcome) == (0, Outcome.DONE)
    finally:
        drop_database(postgres, name)


def test_a_database_that_never_comes_is_unreachable(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    url = "postgresql://nobody:secret-word@127.0.0.1:1/nowhere"
    run = tidegate(
        "up", "--config", project.config, "--connect-timeout", "1", "--json", DATABASE_URL=url
    )
    output, errors = run.communicate(timeout=120)
    report = Report.from_json(output)
    assert (run.returncode, report.failure) == (5, Failure.UNREACHABLE)
    assert "127.0.0.1:1/nowhere within 1 s: " in report.message
    assert "secret-word" not in output + errors


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_database_that_went_away_before_env_py_came_is_unreachable(
    driver: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    gone = f"postgresql+{driver}://postgres@127.0.0.1:9/gone"
    env = (SYNC_ENV if driver == "psycopg" else ASYNC_ENV).replace(
        'context.config.get_section("alembic")', f"{{'sqlalchemy.url': {gone!r}}}"
    )
    project = AlembicProject(tmp_path / "project", env).revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (5, Failure.UNREACHABLE), report


@pytest.mark.parametrize("env", [SYNC_ENV, ASYNCPG_ENV], ids=["psycopg", "asyncpg"])
def test_a_server_without_a_connection_left_for_env_py_is_unreachable(
    env: str, tmp_path: Path, tidegate: Tidegate, database_url: str
) -> None:
    project = AlembicProject(tmp_path / "project", env).revision("a")
    role = f"alone_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1".encode())
        alone = database_url.replace("//postgres", f"//{role}", 1)
        run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=alone)
        code, report = finish(run)
        assert (code, report.failure) == (5, Failure.UNREACHABLE), report
        connection.execute(f"DROP ROLE {role}".encode())


def test_direct_url_wins_over_a_pooler(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a")
    pooler = "postgresql://nobody@127.0.0.1:1/pooler"
    run = tidegate(
        "up", "--config", project.config, "--json", DATABASE_URL=pooler, DIRECT_URL=database_url
    )
    assert finish(run)[0] == 0
    assert rows("SELECT version_num FROM alembic_version") == [("a",)]


def test_a_project_that_does_not_load_says_what_is_wrong(
    project: AlembicProject, tidegate: Tidegate, tmp_path: Path
) -> None:
    project.revision("b", "missing")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "missing" in report.message
    code, report = finish(tidegate("up", "--config", tmp_path / "no.ini", "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS)


def test_an_unknown_phase_is_refused_with_the_two_there_are(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a", phase="shrink")
    _, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert "'shrink'" in report.message
    assert '"expand" or phase = "contract"' in report.hint


def test_the_reference_service_ships_migrations_that_match_its_models(
    orders_alembic: Path, tidegate: Tidegate, database_url: str
) -> None:
    assert finish(tidegate("up", "--config", orders_alembic, "--json"))[0] == 0
    check = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(orders_alembic), "check"],
        env=clean_environment() | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_role_without_rights_is_told_which_one_it_lacks(
    project: AlembicProject, tidegate: Tidegate, database_url: str, postgres: str
) -> None:
    project.revision("a")
    role = "poor_" + uuid4().hex[:8]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            poor = database_url.replace("postgres@", f"{role}@")
            run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=poor)
            code, report = finish(run)
        finally:
            connection.execute(f"DROP ROLE {role}".encode())
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "permission denied for schema public" in report.message
    assert "grant it CREATE" in report.hint


def test_a_read_only_database_is_named_as_one(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a")
    read_only = f"{database_url}&options=-c%20default_transaction_read_only%3Don"
    run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=read_only)
    code, report = finish(run)
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert report.message == "the database is read-only"


NOTHING_ENV = "from alembic import context"
ONE_TRANSACTION_ENV = SYNC_ENV.replace("engine.connect()", "engine.begin()")
OWN_CALLBACK_ENV = SYNC_ENV.replace(
    "connection=connection",
    "connection=connection, on_version_apply=lambda ctx, step, **_: "
    "ctx.connection.exec_driver_sql('CREATE TABLE called (x int)')",
)


def test_an_env_py_that_runs_nothing_is_not_done(tmp_path: Path, tidegate: Tidegate) -> None:
    project = AlembicProject(tmp_path / "project", NOTHING_ENV).revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.verdict) == (1, Failure.MIGRATION_ERROR, Verdict.BEHIND)
    assert "a is not applied" in report.message


def test_what_one_outer_transaction_took_back_is_not_reported_as_applied(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", ONE_TRANSACTION_ENV)
    project.revision("a", sql="CREATE TABLE t (x int)").revision("b", "a", sql="SELECT 1/0")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.revision, report.applied, report.heads) == (1, "b", (), ())
    assert rows("SELECT to_regclass('t')") == [(None,)]
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(0,)]


def test_a_version_table_that_was_emptied_does_not_make_the_database_a_new_one(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a").revision("b", "a", phase="contract")
    up = ("up", "--config", project.config, "--json")
    assert finish(tidegate(*up))[0] == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM alembic_version")
    _, report = finish(tidegate(*up))
    assert report.pending == {"b": Phase.CONTRACT}


def test_tables_in_use_without_a_version_row_are_no_empty_database(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a").revision("b", "a", sql="ALTER TABLE t DROP y", phase="contract")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE t (x int, y int)")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.pending) == (0, {"b": Phase.CONTRACT}), report
    project.revision("c", "a", sql="ALTER TABLE t DROP x")
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE alembic_version, tidegate_schema_history")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (6, Failure.LINT, "c")
    assert (
        len(rows("SELECT * FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")) == 2
    )


def test_a_schema_of_its_own_is_empty_beside_the_tables_of_other_applications(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.revision("b", "a", sql="ALTER TABLE t DROP x", phase="contract")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.t (x int)")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("b",)), report


@pytest.mark.parametrize(
    "change",
    [
        "op.execute('ALTER TABLE theirs.t DROP x')",
        "if op.get_bind().execute(sa.text('SELECT true')).scalar(): op.drop_table('t')",
    ],
    ids=["a table that is there", "nobody can tell"],
)
def test_a_schema_of_its_own_is_not_empty_where_its_revisions_change_other_tables(
    change: str, project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.written("b", "a", head="import sqlalchemy as sa", body=change, phase="contract")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.t (x int)")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads, report.pending) == (0, ("a",), {"b": Phase.CONTRACT}), report
    assert rows("SELECT x FROM theirs.t") == rows("SELECT x FROM t") == []


def test_the_callback_of_an_env_py_is_called_beside_ours(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", OWN_CALLBACK_ENV).revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert rows("SELECT to_regclass('called') IS NOT NULL") == [(True,)]
    assert rows("SELECT revision FROM tidegate_schema_history") == [("a",)]


def test_a_revision_that_comes_again_after_a_downgrade_replaces_its_row(
    project: AlembicProject, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    project.revision("a")
    up = ("up", "--config", project.config, "--json")
    assert finish(tidegate(*up, TIDEGATE_IMAGE="shop:1"))[0] == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM alembic_version")
    assert finish(tidegate(*up, TIDEGATE_IMAGE="shop:2"))[0] == 0
    assert rows("SELECT revision, image FROM tidegate_schema_history") == [("a", "shop:2")]


def test_what_a_revision_prints_does_not_spoil_the_json(tmp_path: Path, tidegate: Tidegate) -> None:
    project = AlembicProject(tmp_path / "project", f"print('hello')\n{SYNC_ENV}").revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0


def test_an_image_with_a_pending_contract_runs_beside_a_compatible_newer_branch(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    one = AlembicProject(tmp_path / "one").revision("a").revision("c", "a", phase="contract")
    two = AlembicProject(tmp_path / "two").revision("a").revision("e", "a")
    assert finish(tidegate("up", "--config", two.config, "--json"))[0] == 0
    code, report = finish(tidegate("up", "--config", one.config, "--json"))
    assert (code, report.outcome) == (0, Outcome.NOTHING_TO_DO)
    assert report.verdict is Verdict.AHEAD_COMPATIBLE


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa/sswordX@127.0.0.1:1/d",
        "postgresql://u:pa@sswordX@127.0.0.1:1/d",
        "postgresql://u:pa?sswordX@127.0.0.1:1/d",
        "postgresql://u:pa#sswordX@127.0.0.1:1/d",
        "postgresql://u:pa[sswordX@127.0.0.1:1/d",
        "postgresql://u:pa%zzsswordX@127.0.0.1:1/d",
        "postgresql://u:sswordX@127.0.0.1:port/d",
        "postgresql://u:sswordX@127.0.0.1:1/d?no_such_option=1",
    ],
)
def test_a_url_that_does_not_parse_is_refused_at_once_and_never_quoted(
    url: str, project: AlembicProject, tidegate: Tidegate, tmp_path: Path
) -> None:
    message = tmp_path / "termination-log"
    run = tidegate("up", "--config", project.config, "--report", message, DATABASE_URL=url)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 2, errors
    assert "percent-encode" in errors
    assert "Traceback" not in errors
    assert "sswordX" not in output + errors + message.read_text()
    assert Report.from_json(message.read_text()).failure is Failure.SETTINGS


def test_a_password_that_env_py_lets_out_stays_out_of_the_report(
    tmp_path: Path, tidegate: Tidegate, database_url: str
) -> None:
    env = (
        "from alembic import context\n"
        "raise ValueError(context.config.get_main_option('sqlalchemy.url'))"
    )
    project = AlembicProject(tmp_path / "project", env).revision("a")
    url = database_url.replace("postgres@", "postgres:a-secret%2Fword@")
    run = tidegate("up", "--config", project.config, "--json", DATABASE_URL=url)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "secret" not in output + errors


def test_a_report_without_a_place_is_refused_before_anything_is_migrated(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a")
    run = tidegate("up", "--config", project.config, "--report", "/no/such/folder/report")
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "there is no folder /no/such/folder" in errors
    assert rows("SELECT to_regclass('alembic_version')") == [(None,)]


def test_an_env_py_that_exits_has_failed_with_a_report(tmp_path: Path, tidegate: Tidegate) -> None:
    project = AlembicProject(tmp_path / "project", "import sys; sys.exit('no vault token')")
    project.revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (1, Failure.MIGRATION_ERROR)
    assert "no vault token" in report.message


@pytest.mark.parametrize("env", [SYNC_ENV, ASYNCPG_ENV], ids=["psycopg", "asyncpg"])
def test_what_a_report_says_of_a_failure_holds_no_row_of_a_table(
    env: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    project = AlembicProject(tmp_path / "project", env)
    project.revision("a", sql="CREATE TABLE t AS SELECT 'a@example.org' AS email")
    project.revision("b", "a", sql="INSERT INTO t TABLE t")
    project.revision("c", "b", sql="CREATE UNIQUE INDEX ON t (email)")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.revision) == (1, "c")
    assert "could not create unique index" in report.message
    assert "example.org" not in report.to_json()


def test_a_revision_that_raises_what_is_no_exception_has_failed_with_a_report(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.written("b", "a", body="import asyncio\nraise asyncio.CancelledError('a task')")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "b")
    assert "CancelledError: a task" in report.message
    assert (report.heads, [done.id for done in report.applied]) == (("a",), ["a"])


STUMBLING = """
import sys
from tidegate_migrate import cli, history

def read(*_):
    raise KeyError("a fault of ours with the-password")

history.read = read
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["up", "status"])
def test_a_fault_of_our_own_is_reported_too_and_its_traceback_shows_no_password(
    command: str, project: AlembicProject, database_url: str
) -> None:
    project.revision("a")
    host = database_url.partition("@")[2]
    assert host
    url = database_url.replace("@", ":the-password@", 1)
    arguments = [command, "--config", str(project.config), "--json"]
    run = subprocess.run(
        [sys.executable, "-c", STUMBLING, *arguments],
        env=clean_environment() | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    report = Report.from_json(run.stdout)
    assert (run.returncode, report.failure) == (1, Failure.MIGRATION_ERROR)
    assert "KeyError" in report.message
    assert "Traceback" in run.stderr
    assert "the-password" not in run.stdout + run.stderr


def test_a_url_written_for_asyncpg_serves_the_runner_and_reaches_env_py_as_written(
    tmp_path: Path, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    env = f"import os; assert '+asyncpg:' in os.environ['DATABASE_URL']\n{SYNC_ENV}"
    project = AlembicProject(tmp_path / "project", env).revision("a")
    written = database_url.replace("postgresql:", "postgresql+asyncpg:")
    written += "&ssl=prefer&prepared_statement_cache_size=0"
    code, _ = finish(tidegate("up", "--config", project.config, "--json", DATABASE_URL=written))
    assert code == 0
    assert rows("SELECT version_num FROM alembic_version") == [("a",)]
