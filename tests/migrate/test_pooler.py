"""Through a real PgBouncer: session mode will do, the others are refused."""

from __future__ import annotations

import pytest

from tests.migrate.conftest import Rows, Tidegate, finish
from tests.migrate.project import AlembicProject
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


def test_a_pooler_in_session_mode_will_do(
    project: AlembicProject, tidegate: Tidegate, pgbouncer: Pgbouncer, rows: Rows
) -> None:
    project.revision("a")
    code, _ = finish(
        tidegate("up", "--config", project.config, "--json", DATABASE_URL=pgbouncer("session"))
    )
    assert (code, rows("SELECT version_num FROM alembic_version")) == (0, [("a",)])
