"""Through a real PgBouncer: session mode will do, the others are refused."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tests.pgbouncer import Pgbouncer, PoolMode
from tidegate.schema import Failure


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_shares_its_connections_is_refused_with_the_words_direct_url(
    mode: PoolMode,
    project: AlembicProject,
    tidegate: Tidegate,
    pgbouncer: Pgbouncer,
    rows: Rows,
    database_url: str,
) -> None:
    project.revision("a")
    up = ("up", "--config", project.config, "--json")
    through = pgbouncer(mode)
    code, report = finish(tidegate(*up, DATABASE_URL=through))
    assert (code, report.failure) == (2, Failure.SETTINGS)
    assert "DIRECT_URL" in report.hint
    assert rows("SELECT to_regclass('alembic_version')") == [(None,)]
    assert finish(tidegate(*up, DATABASE_URL=through, DIRECT_URL=database_url))[0] == 0


@pytest.mark.parametrize("begun", [False, True], ids=["connection", "outer transaction"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_env_py_that_goes_through_a_pooler_by_itself_is_refused_and_leaves_nothing_in_it(
    driver: str,
    begun: bool,
    tmp_path: Path,
    tidegate: Tidegate,
    pgbouncer: Pgbouncer,
    database_url: str,
    rows: Rows,
) -> None:
    env = SYNC_ENV if driver == "psycopg" else ASYNC_ENV
    env = env.replace(
        'context.config.get_section("alembic")', "{'sqlalchemy.url': os.environ['ITS_OWN']}"
    ).replace(".connect()", ".begin()" if begun else ".connect()")
    project = AlembicProject(tmp_path / "project", f"import os\n{env}").revision("a")
    through = pgbouncer("transaction")
    its_own = through.replace("postgresql://", f"postgresql+{driver}://", 1)
    code, report = finish(tidegate("up", "--config", project.config, "--json", ITS_OWN=its_own))
    assert (code, report.failure) == (2, Failure.SETTINGS), report
    assert "pooler" in report.message + report.hint
    assert "DIRECT_URL" in report.hint
    with psycopg.connect(through) as connection:
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
    its_own = pgbouncer("session").replace("postgresql://", f"postgresql+{driver}://", 1)
    code, report = finish(tidegate("up", "--config", project.config, "--json", ITS_OWN=its_own))
    assert code == 0, report


def test_a_pooler_in_session_mode_will_do(
    project: AlembicProject, tidegate: Tidegate, pgbouncer: Pgbouncer, rows: Rows
) -> None:
    project.revision("a")
    code, _ = finish(
        tidegate("up", "--config", project.config, "--json", DATABASE_URL=pgbouncer("session"))
    )
    assert (code, rows("SELECT version_num FROM alembic_version")) == (0, [("a",)])
