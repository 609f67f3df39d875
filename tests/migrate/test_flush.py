"""What a report calls applied is on disk before the report says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.migrate.conftest import clean_environment
from tests.migrate.project import AlembicProject

WATCHED = """
import sys
import psycopg
from tidegate_migrate import boundary, cli

execute = psycopg.Connection.execute

def heard(connection, query, *rest, **options):
    answer = execute(connection, query, *rest, **options)
    if "pg_logical_emit_message" in str(query):
        print("flushed", file=sys.stderr)
    return answer

psycopg.Connection.execute = heard
boundary.reached = lambda step: print(step, file=sys.stderr)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("sql", "code"), [("SELECT 1/0", 1), ("SELECT 1", 0)])
def test_a_run_that_fails_half_way_brings_what_it_has_applied_to_disk(
    sql: str, code: int, project: AlembicProject, database_url: str
) -> None:
    """Where the last revision is applied its own commit does that."""
    project.revision("a").revision("b", "a", sql=sql)
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, "up", "--config", str(project.config)],
        env=clean_environment() | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == code, run.stderr
    steps = [line for line in run.stderr.splitlines() if line in {"flushed", "report delivered"}]
    assert steps == (["flushed"] if code else []) + ["report delivered"]
