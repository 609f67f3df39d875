"""Any env.py, unedited: where it keeps its versions, how it connects, what else it asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tests.migrate.test_locks import ASYNCPG_ENV
from tests.postgres import create_database, drop_database
from tidegate.database import asyncpg_url, read_applied
from tidegate.schema import Applied, Failure, Manifest, Outcome, Phase, Revision, Verdict


def configured(options: str) -> str:
    return SYNC_ENV.replace("connection=connection", f"connection=connection, {options}")


OWN_TABLE = configured("version_table='my_version'")
OWN_SCHEMA = configured("version_table='my_version', version_table_schema='app'")
SEARCH_PATH = SYNC_ENV.replace(
    "    context.configure(",
    "    connection.exec_driver_sql('SET search_path TO app')\n"
    "    connection.commit()\n"
    "    context.configure(",
)
TRANSLATED = SYNC_ENV.replace(
    "    context.configure(",
    "    connection = connection.execution_options(schema_translate_map={None: 'app'})\n"
    "    context.configure(",
)


@pytest.mark.parametrize(
    ("env", "schema", "table"),
    [
        (OWN_TABLE, "public", "my_version"),
        (OWN_SCHEMA, "app", "my_version"),
        (SEARCH_PATH, "app", "alembic_version"),
    ],
    ids=["version_table", "version_table_schema", "search_path"],
)
def test_versions_are_read_and_the_history_is_kept_where_env_py_says(
    env: str,
    schema: str,
    table: str,
    tmp_path: Path,
    tidegate: Tidegate,
    rows: Rows,
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
        # What another project keeps in Alembic's own place has nothing to say here.
        connection.execute("CREATE TABLE public.alembic_version (version_num text)")
        connection.execute("INSERT INTO public.alembic_version VALUES ('somebody_elses')")
    project = AlembicProject(tmp_path / "project", env)
    project.revision("a", sql="CREATE TABLE t (x int, old int)")
    up = ("up", "--config", project.config, "--json")
    code, report = finish(tidegate(*up))
    assert (code, report.outcome, report.verdict) == (0, Outcome.DONE, Verdict.CURRENT), report
    assert finish(tidegate(*up))[1].outcome is Outcome.NOTHING_TO_DO
    project.revision("b", "a", sql="ALTER TABLE t DROP old", phase="contract")
    code, report = finish(tidegate(*up))
    assert (code, report.pending) == (0, {"b": Phase.CONTRACT})
    assert rows(f"TABLE {schema}.{table}") == [("a",)]
    own = "" if table == "alembic_version" else f"_{table}"
    assert rows(
        "SELECT schemaname::text, tablename::text FROM pg_tables "
        "WHERE tablename LIKE 'tidegate_schema_history%'"
    ) == [(schema, f"tidegate_schema_history{own}")]
    assert rows("SELECT version_num FROM public.alembic_version") == [("somebody_elses",)]


def test_a_schema_that_env_py_makes_with_its_first_revision_may_be_missing(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    env = OWN_SCHEMA.replace(
        "context.run_migrations()",
        "context.execute('CREATE SCHEMA IF NOT EXISTS app')\n        context.run_migrations()",
    )
    assert env != OWN_SCHEMA
    project = AlembicProject(tmp_path / "project", env)
    project.revision("a", sql="CREATE TABLE t (x int)")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report
    assert rows("TABLE app.my_version") == [("a",)]


@pytest.mark.parametrize("async_driver", [False, True], ids=["psycopg", "asyncpg"])
def test_names_that_sql_and_drivers_read_otherwise_are_names_like_any_other(
    async_driver: bool, tmp_path: Path, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""CREATE SCHEMA "o%sd'x" """)
    env = ASYNCPG_ENV if async_driver else SYNC_ENV
    env = env.replace(
        "connection=connection",
        """connection=connection, version_table='v%t', version_table_schema="o%sd'x" """,
    )
    project = AlembicProject(tmp_path / "project", env).revision("a")
    project.written(
        "b",
        "a",
        body="with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE t (x int)')",
    )
    up = ("up", "--config", project.config, "--json")
    code, report = finish(tidegate(*up))
    assert (code, report.heads) == (0, ("b",)), report
    assert finish(tidegate(*up))[1].outcome is Outcome.NOTHING_TO_DO
    assert rows("""DELETE FROM "o%sd'x"."tidegate_schema_history_v%t" RETURNING revision""")
    assert tidegate("stamp", "--adopt", "--config", project.config).wait(60) == 0
    for command in ("status", "history", "plan", "wait"):
        assert tidegate(command, "--config", project.config).wait(60) == 0
    assert rows("""SELECT count(*) FROM "o%sd'x"."tidegate_schema_history_v%t" """) == [(2,)]


def test_two_projects_in_one_schema_keep_their_histories_apart(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    first = AlembicProject(tmp_path / "first").revision("a").revision("b", "a", phase="contract")
    second = AlembicProject(tmp_path / "second", OWN_TABLE).revision("a").revision("b", "a")
    older = AlembicProject(tmp_path / "older").revision("a")
    for project in (first, second):
        code, report = finish(tidegate("up", "--config", project.config, "--json"))
        assert (code, report.outcome, report.heads) == (0, Outcome.DONE, ("b",))
    _, report = finish(tidegate("wait", "--config", older.config, "--json"))
    assert report.verdict is not Verdict.AHEAD_COMPATIBLE, "the other's b says nothing here"
    phases = "SELECT revision, phase FROM {} ORDER BY revision"
    assert rows(phases.format("tidegate_schema_history")) == [("a", "expand"), ("b", "contract")]
    assert rows(phases.format("tidegate_schema_history_my_version")) == [
        ("a", "expand"),
        ("b", "expand"),
    ]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_service_reads_where_its_manifest_says(
    driver: str, tmp_path: Path, tidegate: Tidegate, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "app%s"')
    project = AlembicProject(tmp_path / "project", OWN_SCHEMA.replace("app", "app%s")).revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    engine = create_async_engine(asyncpg_url(database_url).set(drivername=f"postgresql+{driver}"))
    async with engine.connect() as connected:
        assert await read_applied(connected, "app%s.my_version") == Applied(
            frozenset({"a"}), {"a": Revision("a")}
        )
        assert await read_applied(connected) == Applied()
    await engine.dispose()


def test_a_translated_schema_is_followed(
    tmp_path: Path, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
    project = AlembicProject(tmp_path / "project", TRANSLATED).revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report
    assert rows("SELECT revision FROM app.tidegate_schema_history") == [("a",)]


@pytest.mark.parametrize(
    "options",
    [
        "transaction_per_migration=True",
        "transactional_ddl=False",
        "include_schemas=True",
        "version_table_pk=False",
    ],
)
def test_other_options_of_an_env_py_change_nothing(
    options: str, tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    project = AlembicProject(tmp_path / "project", configured(options))
    project.revision("a", sql="CREATE TABLE t (x int)")
    project.revision("b", "a", sql="ALTER TABLE t ADD y int; SELECT 1/0")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.revision, report.heads) == (1, "b", ("a",))
    assert [done.id for done in report.applied] == ["a"]
    assert rows("SELECT revision FROM tidegate_schema_history") == [("a",)]
    assert rows("SELECT count(*) FROM information_schema.columns WHERE table_name = 't'") == [(1,)]


def test_an_env_py_that_has_begun_a_transaction_keeps_it(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    env = SYNC_ENV.replace(
        "    context.configure(",
        "    connection.exec_driver_sql('SELECT 1')\n    context.configure(",
    )
    env += "    connection.commit()\n"
    project = AlembicProject(tmp_path / "project", env).revision("a").revision("b", "a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT count(*) FROM tidegate_schema_history") == [(2,)]


def test_an_env_py_whose_connection_knows_no_transactions_is_refused(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    env = SYNC_ENV.replace("NullPool\n", "NullPool, isolation_level='AUTOCOMMIT'\n")
    assert env != SYNC_ENV
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="CREATE TABLE t ()")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS), report
    assert "AUTOCOMMIT" in report.message
    assert rows("SELECT to_regclass('t')") == [(None,)]


def test_what_is_written_beside_belongs_to_the_role_that_env_py_takes(
    tmp_path: Path, tidegate: Tidegate, rows: Rows, postgres: str, database_url: str
) -> None:
    login, owner = (f"{name}%s_{uuid4().hex[:8]}" for name in ("login", "owner"))
    env = SYNC_ENV.replace(
        "    context.configure(",
        f"    connection.exec_driver_sql('SET ROLE \"{owner.replace('%', '%%')}\"', ())\n"
        "    connection.commit()\n"
        "    context.configure(",
    )
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="CREATE TABLE t ()")
    url = database_url.replace("postgres@", f"{login.replace('%', '%25')}@")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{login}" LOGIN NOINHERIT; CREATE ROLE "{owner}"'.encode())
        try:
            connection.execute(f'GRANT "{owner}" TO "{login}"'.encode())
            connection.execute(f'GRANT ALL ON SCHEMA public TO "{owner}"'.encode())
            for command in ("up", "status", "up", "plan", "wait"):
                run = tidegate(command, "--config", project.config, "--json", DATABASE_URL=url)
                output, errors = run.communicate(timeout=60)
                assert run.returncode == 0, output + errors
            assert set(
                rows("SELECT tableowner::text FROM pg_tables WHERE schemaname = 'public'")
            ) == {(owner,)}
            connection.execute("DELETE FROM tidegate_schema_history")
            run = tidegate("stamp", "--adopt", "--config", project.config, DATABASE_URL=url)
            assert run.wait(60) == 0
        finally:
            connection.execute(f'DROP OWNED BY "{owner}"; DROP ROLE "{login}", "{owner}"'.encode())


def test_an_env_py_that_migrates_several_places_in_one_run_is_refused(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    env = SYNC_ENV + SYNC_ENV.replace(
        "connection=connection", "connection=connection, version_table='second'"
    )
    project = AlembicProject(tmp_path / "project", env).revision("a")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "several places" in report.message
    assert rows("SELECT to_regclass('second')") == [(None,)]


def test_an_env_py_that_works_on_another_database_is_refused_before_it_changes_anything(
    tmp_path: Path, tidegate: Tidegate, postgres: str
) -> None:
    name = "elsewhere_" + uuid4().hex[:8]
    elsewhere = create_database(postgres, name)
    try:
        env = (
            "from alembic import context\n"
            f"url = {elsewhere.replace('postgresql:', 'postgresql+psycopg:')!r}\n"
            "context.config.set_main_option('sqlalchemy.url', url.replace('%', '%%'))\n" + SYNC_ENV
        )
        project = AlembicProject(tmp_path / "project", env)
        project.revision("a", sql="CREATE TABLE t (x int)")
        code, report = finish(tidegate("up", "--config", project.config, "--json"))
        assert (code, report.failure) == (2, Failure.SETTINGS)
        assert "works on another database" in report.message
        with psycopg.connect(elsewhere) as connection:
            assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    finally:
        drop_database(postgres, name)


def test_two_bases_and_a_revision_that_depends_on_another_branch_are_applied(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a1").revision("a2", "a1")
    project.written("b1", head='branch_labels = "other"\ndepends_on = "a2"', body="pass")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("b1",))
    assert [done.id for done in report.applied] == ["a1", "a2", "b1"]
    assert finish(tidegate("up", "--config", project.config, "--json"))[1].applied == ()


def test_a_run_stops_at_the_revision_it_is_told_to(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a").revision("b", "a").revision("c", "b")
    up = ("up", "--config", project.config, "--json")
    code, report = finish(tidegate(*up, "--to", "b"))
    assert (code, report.heads, report.pending) == (0, ("b",), {"c": Phase.EXPAND})
    code, report = finish(tidegate(*up, "--to", "nowhere"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "'nowhere'" in report.message


def test_a_revision_to_stop_at_that_the_phase_leaves_out_is_said_to_be_out_of_reach(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a")
    up = ("up", "--config", project.config, "--json")
    assert finish(tidegate(*up))[0] == 0
    project.revision("b", "a").revision("c", "b", phase="contract")
    code, report = finish(tidegate(*up, "--to", "c"))
    assert (code, report.failure, report.heads) == (2, Failure.SETTINGS, ("b",))
    assert "--to c is not reached: --phase expand leaves out c (contract)" in report.message
    assert finish(tidegate(*up, "--to", "b"))[1].outcome is Outcome.NOTHING_TO_DO


def test_a_database_without_an_encoding_is_read_as_utf_8(
    project: AlembicProject, tidegate: Tidegate, postgres: str
) -> None:
    name = "ascii_" + uuid4().hex[:8]
    url = create_database(postgres, name)
    drop_database(postgres, name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        make = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        connection.execute(make.encode())
    try:
        project.revision("a", sql="CREATE TABLE zürich (x int)")
        up = ("up", "--config", project.config, "--json")
        code, report = finish(tidegate(*up, DATABASE_URL=url))
        assert (code, report.heads) == (0, ("a",)), report
        assert finish(tidegate(*up, DATABASE_URL=url))[1].outcome is Outcome.NOTHING_TO_DO
    finally:
        drop_database(postgres, name)


def test_the_reason_for_a_lint_exception_lands_in_the_history(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project.revision("a")
    project.written("b", "a", head='lint_ignore = {"some-rule": "the table is empty"}', body="pass")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert rows("SELECT lint_ignored FROM tidegate_schema_history ORDER BY revision") == [
        (None,),
        ('{"some-rule": "the table is empty"}',),
    ]


def test_the_history_of_an_older_runner_gets_what_it_lacks(
    project: AlembicProject, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    project.revision("a")
    up = ("up", "--config", project.config, "--json")
    assert finish(tidegate(*up))[0] == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE tidegate_schema_history DROP lint_ignored")
    project.revision("b", "a")
    assert finish(tidegate(*up))[0] == 0
    assert rows("SELECT count(lint_ignored) FROM tidegate_schema_history") == [(0,)]


def test_nothing_to_do_has_an_exit_code_of_its_own_for_those_who_ask(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a")
    up = ("up", "--config", project.config, "--json", "--detailed-exitcode")
    assert finish(tidegate(*up))[0] == 0
    assert finish(tidegate(*up))[0] == 10


OFFLINE_ENV = """
from alembic import context
options = {OPTIONS}
if context.is_offline_mode():
    context.configure(url="postgresql://", **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    raise RuntimeError("no database here")
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"version_table": "v"}, "v"),
        ({"version_table_schema": "app"}, "app.alembic_version"),
        ({"version_table": "v", "version_table_schema": "app"}, "app.v"),
    ],
)
def test_the_manifest_says_where_the_versions_are_kept(
    options: dict[str, str], expected: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    env = OFFLINE_ENV.replace("{OPTIONS}", repr(options))
    project = AlembicProject(tmp_path / "project", env).revision("a")
    run = tidegate("manifest", "--config", project.config)
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert Manifest.from_json(output).version_table == expected


def test_a_manifest_that_cannot_know_where_versions_are_kept_asks_for_it(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    env = "import settings_that_are_not_here  # its version_table\n"
    project = AlembicProject(tmp_path / "project", env).revision("a")
    manifest = ("manifest", "--config", project.config)
    run = tidegate(*manifest)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "--version-table" in errors
    run = tidegate(*manifest, "--version-table", "app.v")
    output, _ = run.communicate(timeout=60)
    assert Manifest.from_json(output).version_table == "app.v"


def test_the_driver_that_the_ini_file_names_stays_env_pys(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    env = ASYNC_ENV.replace(
        'prefix="sqlalchemy.",',
        'prefix="sqlalchemy.", connect_args={"server_settings": {"search_path": "public"}},',
    )
    project = AlembicProject(tmp_path / "project", env).revision("a")
    ini = project.config.read_text()
    project.config.write_text(f"{ini}sqlalchemy.url = postgresql+asyncpg://somebody@nowhere/x\n")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.heads) == (0, ("a",)), report


@pytest.mark.parametrize("config", ["alembic.ini", "pyproject.toml"])
def test_a_project_that_is_configured_in_pyproject_toml_is_read_as_alembic_reads_it(
    config: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    init = [sys.executable, "-m", "alembic", "init", "-t", "pyproject", "migrations"]
    subprocess.run(init, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "migrations" / "versions" / "a.py").write_text(
        "revision, down_revision = 'a', None\ndef upgrade(): pass\n"
    )
    for with_ini in (True, False):
        if not with_ini:
            (tmp_path / "alembic.ini").unlink()
        code, report = finish(tidegate("up", "--config", tmp_path / config, "--json"))
        assert (code, report.heads) == (0, ("a",)), report


PICKY = (
    "from alembic import command, context\n"
    "options = context.config.cmd_opts\n"
    "assert (options.cmd[0], options.name) == (command.upgrade, 'second')\n"
    "tenants = context.get_x_argument(as_dictionary=True)\n"
    "assert tenants == {'tenant': 'app', 'note': 'two words'}\n"
) + SYNC_ENV.replace('"alembic"', "context.config.config_ini_section").replace(
    "connection=connection", "connection=connection, version_table_schema=tenants['tenant']"
)
AS_OPTIONS = ("--name", "second", "-x", "tenant=app", "-x", "note=two words")
AS_VARIABLES = {
    "TIDEGATE_ALEMBIC_NAME": "second",
    "TIDEGATE_ALEMBIC_X": "tenant=app 'note=two words'",
}


@pytest.mark.parametrize(
    ("options", "variables"), [(AS_OPTIONS, {}), ((), AS_VARIABLES)], ids=["options", "variables"]
)
def test_a_section_and_arguments_for_env_py_are_given_as_to_alembic(
    options: tuple[str, ...],
    variables: dict[str, str],
    tmp_path: Path,
    tidegate: Tidegate,
    rows: Rows,
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
    project = AlembicProject(tmp_path / "project", PICKY).revision("a")
    project.config.write_text(project.config.read_text().replace("[alembic]", "[second]"))
    given = ("--config", project.config, *options)
    code, report = finish(tidegate("up", *given, "--json", **variables))
    assert (code, report.heads) == (0, ("a",)), report
    assert rows("TABLE app.alembic_version") == [("a",)]
    for command in (("wait",), ("plan",), ("status",), ("lint", "--all"), ("backfill",)):
        run = tidegate(*command, *given, **variables)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    manifest = tidegate("manifest", *given, "--version-table", "app.alembic_version", **variables)
    output, _ = manifest.communicate(timeout=60)
    assert Manifest.from_json(output).revisions.keys() == {"a"}


def test_arguments_for_env_py_that_do_not_read_as_words_are_refused(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    up = ("up", "--config", project.config, "--json")
    code, report = finish(tidegate(*up, TIDEGATE_ALEMBIC_X="note='two words"))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "TIDEGATE_ALEMBIC_X" in report.message


def test_revisions_that_only_env_py_knows_of_are_found(
    tmp_path: Path, tidegate: Tidegate, rows: Rows
) -> None:
    env = "from pathlib import Path\nfrom alembic import context\n" + (
        "context.script.version_locations = [str(Path(__file__).parent / 'elsewhere')]\n"
    )
    project = AlembicProject(tmp_path / "project", env + SYNC_ENV)
    project.revision("a")
    (project.config.parent / "versions").rename(project.config.parent / "elsewhere")
    code, report = finish(tidegate("up", "--config", project.config, "--json"))
    assert (code, report.verdict, report.heads) == (0, Verdict.CURRENT, ("a",)), report
    assert rows("SELECT revision FROM tidegate_schema_history") == [("a",)]


def test_what_env_py_prints_past_sys_stdout_and_a_revision_at_its_import_leaves_the_json_alone(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    loud = (
        "import os, subprocess, sys\nprint('a logger', file=sys.__stdout__)\n"
        "os.write(1, b'a library')\nsubprocess.run(['echo', 'a child'])\n"
    )
    project = AlembicProject(tmp_path / "project", loud + SYNC_ENV)
    project.written("a", head="print('a revision')", body="pass")
    for command in ("plan", "up", "status", "manifest"):
        json_line = () if command == "manifest" else ("--json",)
        output, errors = tidegate(command, "--config", project.config, *json_line).communicate()
        json.loads(output)  # and nothing beside it
        for words in ("a logger", "a library", "a child", "a revision"):
            assert words in errors
