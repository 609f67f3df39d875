"""Who stands in the way of a migration is named, as far as the server lets its role see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.migrate.conftest import Tidegate, finish
from tests.migrate.project import SYNC_ENV, AlembicProject
from tests.migrate.test_locks import lines_until
from tidegate.schema import Failure
from tidegate_migrate.blockers import describe


@pytest.fixture
def ordinary(database_url: str) -> Iterator[tuple[str, str]]:
    """An ordinary login's URL, and the role of the schema's owner, as which it may work."""
    login, owner = (f"{name}_{uuid4().hex[:8]}" for name in ("login", "owner"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {owner}; CREATE ROLE {login} LOGIN".encode())
        connection.execute(f"GRANT {owner} TO {login}".encode())
        connection.execute(f"GRANT ALL ON SCHEMA public TO {owner}, {login}".encode())
        yield database_url.replace("postgres@", f"{login}@"), owner
        connection.execute(f"DROP OWNED BY {login}, {owner}; DROP ROLE {login}, {owner}".encode())


@pytest.mark.parametrize("takes_a_role", [False, True], ids=["the login", "another role"])
def test_whoever_is_in_the_way_is_named_to_a_role_that_may_not_see_what_they_do(
    takes_a_role: bool,
    tmp_path: Path,
    tidegate: Tidegate,
    database_url: str,
    ordinary: tuple[str, str],
) -> None:
    url, owner = ordinary
    env = SYNC_ENV
    if takes_a_role:
        take = f"connection.exec_driver_sql('SET ROLE {owner}'); connection.commit()"
        env = env.replace("    context.configure(", f"    {take}\n    context.configure(")
    project = AlembicProject(tmp_path / "project", env).revision("a", sql="CREATE TABLE t (x int)")
    up = ("up", "--config", project.config, "--json", "--deadline", "0.5")
    assert finish(tidegate(*up, DATABASE_URL=url))[0] == 0
    project.revision("b", "a", sql="ALTER TABLE t ADD y int")
    with psycopg.connect(database_url, application_name="a long report") as reader:
        reader.execute("SELECT FROM t")
        code, report = finish(tidegate(*up, DATABASE_URL=url))
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
        named = f"in its way: a long report (backend {reader.info.backend_pid})"
        assert report.message.endswith(named)


def test_a_lock_like_autovacuums_is_soon_tried_for_again_where_nobody_may_see_whose_it_is(
    project: AlembicProject, tidegate: Tidegate, database_url: str, ordinary: tuple[str, str]
) -> None:
    url, _ = ordinary
    project.revision("a", sql="CREATE TABLE t (x int)")
    assert finish(tidegate("up", "--config", project.config, "--json", DATABASE_URL=url))[0] == 0
    project.revision("b", "a", sql="ALTER TABLE t ADD y int")
    with psycopg.connect(database_url) as vacuum:
        vacuum.execute("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        up = ("up", "--config", project.config, "--json", "--deadline", "9")
        run = tidegate(*up, DATABASE_URL=url)
        # The queue grows from try to try, until it is long enough for autovacuum to yield.
        lines_until(run, "taken back; again within 0.")
    assert finish(run)[0] == 0


@pytest.mark.parametrize(
    "command",
    [("up",), ("wait", "--timeout", "0.5"), ("status",), ("stamp", "--adopt")],
    ids=lambda command: command[0],
)
def test_a_version_table_that_somebody_keeps_locked_is_not_waited_for_without_end(
    command: tuple[str, ...], project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE alembic_version")
        code, report = finish(tidegate(*command, "--config", project.config, "--json"))
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert "keeps the version table" in report.message


def test_what_an_older_runners_table_lacks_is_added_without_holding_its_readers_up(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    up = ("up", "--config", project.revision("a").config, "--json", "--ddl-lock-timeout", "0.3")
    assert finish(tidegate(*up))[0] == 0
    project.revision("b", "a")
    history = "tidegate_schema_history"
    with psycopg.connect(database_url) as dump:
        dump.execute(f"ALTER TABLE {history} DROP lint_ignored".encode())
        dump.commit()
        dump.execute(f"LOCK TABLE {history} IN ACCESS SHARE MODE".encode())
        code, report = finish(tidegate(*up))
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert finish(tidegate(*up))[0] == 0


def test_a_prepared_transaction_is_named_as_what_it_is() -> None:
    assert describe(0, "unknown", None, None) == "a prepared transaction (pg_prepared_xacts)"
