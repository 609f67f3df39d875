"""The SQL of revisions, shown without a database."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tidegate_migrate.project import load
from tidegate_migrate.statements import Rendered, render

OFFLINE_ENV = """
from alembic import context
from sqlalchemy import MetaData

print("env.py speaks")
assert context.is_offline_mode()
naming = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
context.configure(url="sqlite://", target_metadata=MetaData(naming_convention=naming))
with context.begin_transaction():
    context.run_migrations()
"""
REFUSING_ENV = "raise NotImplementedError('offline mode is not supported')"
EXITING_ENV = "import sys; sys.exit('no vault token')"
NOTHING_ENV = "from alembic import context"
RETRYING_ENV = SYNC_ENV.replace(
    "with engine.connect() as connection:",
    """
while True:
    try:
        connection = engine.connect()
        break
    except Exception:
        pass
with connection:""",
)


class Project:
    """A project whose revisions are Python."""

    def __init__(self, directory: Path, env: str = OFFLINE_ENV) -> None:
        self._config = AlembicProject(directory, env).config
        self._last: str | None = None

    def revision(self, name: str, body: str, *, head: str = "") -> Project:
        """Add a revision with this body of ``upgrade()``, on top of the one before."""
        (self._config.parent / "versions" / f"{name}.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import context, op\n"
            f"revision = {name!r}\ndown_revision = {self._last!r}\n{head}\n"
            "def upgrade():\n" + "".join(f"    {line}\n" for line in body.splitlines())
        )
        self._last = name
        return self

    def render(self, *names: str) -> tuple[Rendered, ...]:
        """Render the revisions, all of them where none is named."""
        project = load(self._config)
        return render(project, names or list(project.manifest.revisions))


def texts(rendered: Rendered) -> list[str]:
    """Return the statements without their line breaks."""
    return [" ".join(statement.sql.split()) for statement in rendered.statements]


def test_each_statement_is_known_by_its_revision_and_its_line_in_the_file(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.revision("a", "op.create_table('t', sa.Column('c', sa.Text))")
    project.revision(
        "b",
        "op.add_column('t', sa.Column('d', sa.Integer))\n"
        "op.execute('''\n  UPDATE t SET d = 1;\n  -- a comment;\n  DELETE FROM t\n''')",
    )
    (b,) = project.render("b")
    assert b.revision == "b"
    assert texts(b) == ["ALTER TABLE t ADD COLUMN d INTEGER", "UPDATE t SET d = 1", "DELETE FROM t"]
    source = Path(b.file).read_text().splitlines()
    for statement, words in zip(b.statements, ["add_column", "UPDATE", "DELETE"], strict=True):
        assert statement.file_line
        assert words in source[statement.file_line - 1]
        assert statement.sql.splitlines()[0] in b.sql.splitlines()[statement.line - 1]


@pytest.mark.parametrize(
    "env",
    [OFFLINE_ENV, SYNC_ENV, ASYNC_ENV, RETRYING_ENV, REFUSING_ENV, EXITING_ENV, NOTHING_ENV],
    ids=["offline", "sync", "async", "retrying", "refusing", "exiting", "empty"],
)
def test_whatever_env_py_does_offline_the_sql_is_postgresqls_and_no_one_connects(
    env: str, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", env)
    ini = tmp_path / "project" / "alembic.ini"
    ini.write_text(f"{ini.read_text()}sqlalchemy.url = postgresql+psycopg://nobody@127.0.0.1:1/x\n")
    project.revision("a", "op.create_table('t', sa.Column('c', sa.Uuid), sa.Column('d', sa.JSON))")
    (a,) = project.render()
    assert texts(a) == ["CREATE TABLE t ( c UUID, d JSON )"]
    assert not a.missing


def test_names_come_out_as_env_py_would_have_them(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.revision("a", "op.create_unique_constraint(None, 't', ['c'])")
    (a,) = project.render()
    assert texts(a) == ["ALTER TABLE t ADD CONSTRAINT uq_t_c UNIQUE (c)"]


def test_rendering_neither_prints_nor_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    project = Project(tmp_path / "project").revision("a", "print('hello'); op.execute('SELECT 1')")
    with caplog.at_level(logging.INFO):
        assert texts(project.render()[0]) == ["SELECT 1"]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger("tidegate").isEnabledFor(logging.ERROR)


def test_an_autocommit_block_is_seen_as_outside_of_the_transaction(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").revision(
        "a",
        "op.execute('SELECT 1')\n"
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('i', 't', ['c'], postgresql_concurrently=True)\n"
        "op.execute('SELECT 2')",
    )
    (a,) = project.render()
    assert [statement.in_transaction for statement in a.statements] == [True, False, True]


def test_values_and_percent_signs_come_out_as_they_run(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").revision(
        "a",
        "t = sa.table('t', sa.column('c', sa.Text), sa.column('d'))\n"
        "op.execute(t.update().values(c='100%'))\n"
        "op.execute(\"SELECT 'a%'\")\n"
        "op.bulk_insert(t, [{'c': 'x'}])\n"
        "op.execute(t.update().values(d=1))\n"
        "op.get_bind().execute(sa.text('DELETE FROM t WHERE c = :c'), {'c': 'x'})\n"
        "op.get_bind().exec_driver_sql(\"SELECT 'a%%:b'::text\")\n"
        "op.get_bind().exec_driver_sql('DELETE FROM t WHERE c = %s', ('x',))\n"
        "op.get_bind().close()",
    )
    (a,) = project.render()
    assert not a.missing
    assert texts(a) == [
        "UPDATE t SET c='100%'",
        "SELECT 'a%'",
        "INSERT INTO t (c) VALUES ('x')",
        "UPDATE t SET d=$1",
        "DELETE FROM t WHERE c = $1",
        "SELECT 'a%:b'::text",
        "DELETE FROM t WHERE c = $1",
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("rows = op.get_bind().execute(sa.text('SELECT 1')).all()", "what a statement returned"),
        ("for row in op.get_bind().execute(sa.text('SELECT 1')): pass", "a statement returned"),
        ("if op.get_bind().execute(sa.text('SELECT 1')): pass", "a statement returned"),
        ("sa.inspect(op.get_bind()).get_table_names()", "it inspects the database"),
        ("op.get_bind().scalar(sa.text('SELECT 1'))", "it asks the connection for .scalar"),
        ("sa.create_engine('postgresql+psycopg://u@127.0.0.1:1/x').connect()", "it connects"),
        ("import psycopg; psycopg.connect('host=127.0.0.1 port=1')", "it connects"),
        (
            "import asyncio, psycopg; "
            "asyncio.run(psycopg.AsyncConnection.connect('host=127.0.0.1 port=1'))",
            "it connects",
        ),
        (
            "import asyncio, asyncpg; asyncio.run(asyncpg.connect('postgresql://127.0.0.1:1'))",
            "it connects",
        ),
        ("if context.is_offline_mode(): return", "it does something else offline"),
        ("if not op.get_context().as_sql: pass", "it does something else offline"),
        ("raise SystemExit('no')", "SystemExit: no"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_needs_a_database_is_told_apart_and_what_came_before_is_kept(
    body: str, reason: str, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project")
    project.revision("a", f"op.drop_table('t')\n{body}").revision("b", "op.execute('SELECT 1')")
    a, b = project.render()
    assert reason in a.missing
    assert a.missing.startswith("line 8: ")
    assert texts(a)[0] == "DROP TABLE t"
    assert texts(b) == ["SELECT 1"]
    assert not b.missing


def test_a_revision_that_was_rendered_is_as_good_as_new(tmp_path: Path) -> None:
    Project(tmp_path / "project").revision(
        "a",
        "t = sa.Table('t', metadata, sa.Column('c', sa.Integer))\nop.execute(t.delete())",
        head="metadata = sa.MetaData()",
    )
    loaded = load(tmp_path / "project" / "alembic.ini")
    for (a,) in (render(loaded, ["a"]), render(loaded, ["a"])):
        assert (texts(a), a.missing) == (["DELETE FROM t"], "")
    assert not loaded.scripts.get_revision("a").module.metadata.tables


def test_an_env_py_that_does_not_come_to_its_migrations_is_named_with_what_is_missing(
    tmp_path: Path,
) -> None:
    env = "from alembic import context\nraise ValueError('postgresql://u:secret@db/x')"
    (a,) = Project(tmp_path / "project", env).revision("a", "op.create_our_view()").render()
    assert "create_our_view" in a.missing
    assert "rendered without env.py: offline, it stops with ValueError" in a.missing
    assert "secret" not in a.missing


def test_a_declared_existing_type_goes_with_the_statement(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").revision(
        "a",
        "op.alter_column('t', 'c', existing_type=sa.String(10), type_=sa.Text())\n"
        "op.execute('SELECT 1')",
    )
    (a,) = project.render()
    assert [statement.old_type for statement in a.statements] == ["VARCHAR(10)", ""]


def test_the_reference_service_is_rendered_whole(orders_alembic: Path) -> None:
    project = load(orders_alembic)
    rendered = render(project, project.manifest.revisions)
    assert [one.revision for one in rendered] == list(project.manifest.revisions)
    assert all(one.statements and not one.missing for one in rendered)
