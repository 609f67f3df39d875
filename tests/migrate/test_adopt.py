"""`tidegate migrate stamp --adopt`: a database that Alembic has kept until now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, answer, clean_environment, finish
from tests.migrate.project import AlembicProject
from tidegate.schema import Failure, Verdict
from tidegate_migrate.lock import LOCK_KEY

ROWS = "SELECT revision, phase, down, image, length(checksum) FROM tidegate_schema_history"
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture
def kept_by_alembic(tmp_path: Path, database_url: str) -> AlembicProject:
    """A project whose three revisions Alembic itself has applied."""
    project = AlembicProject(tmp_path / "project", ENV)
    project.revision("a", sql="CREATE TABLE t (x int, y int)")
    project.revision("b", "a", sql="ALTER TABLE t DROP y").revision("c", "b")
    subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(project.config), "upgrade", "head"],
        env=clean_environment() | {"DATABASE_URL": database_url},
        check=True,
        capture_output=True,
    )
    return project


def test_every_applied_revision_gets_its_row_and_a_destructive_one_counts_as_contract(
    kept_by_alembic: AlembicProject, tidegate: Tidegate, rows: Rows, tmp_path: Path
) -> None:
    project = kept_by_alembic.revision("d", "c")  # pending: not adopted
    stamp = ("stamp", "--adopt", "--config", project.config)
    output, _ = tidegate(*stamp).communicate(timeout=120)
    assert "b         contract  drops column t.y" in output
    assert output.endswith("3 rows written\n")
    assert sorted(rows(ROWS)) == [
        ("a", "expand", [], "adopted", 64),
        ("b", "contract", ["a"], "adopted", 64),
        ("c", "expand", ["b"], "adopted", 64),
    ]
    assert rows("SELECT version_num FROM alembic_version") == [("c",)]
    code, told = answer(tidegate(*stamp, "--json", "--detailed-exitcode"))
    assert (code, told["outcome"], told["adopted"]) == (10, "nothing-to-do", [])
    # From now on an older image can judge what it has never seen.
    for shipped, verdict in (("a", Verdict.AHEAD_INCOMPATIBLE), ("b", Verdict.AHEAD_COMPATIBLE)):
        older = AlembicProject(tmp_path / f"up to {shipped}", ENV).revision("a")
        if shipped == "b":
            older.revision("b", "a")
        _, report = finish(tidegate("status", "--config", older.config, "--json"))
        assert report.verdict is verdict


def test_it_says_what_it_would_write_and_writes_nothing_in_a_dry_run(
    kept_by_alembic: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    stamp = ("stamp", "--adopt", "--dry-run", "--config", kept_by_alembic.config)
    code, told = answer(tidegate(*stamp, "--json"))
    assert (code, [each["phase"] for each in told["adopted"]]) == (
        0,
        ["expand", "contract", "expand"],
    )
    assert rows("SELECT to_regclass('tidegate_schema_history')") == [(None,)]


def test_rows_that_are_there_are_left_alone(
    kept_by_alembic: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    project = kept_by_alembic.revision("d", "c")
    up = tidegate("up", "--config", project.config, "--json", TIDEGATE_IMAGE="shop:2")
    assert finish(up)[0] == 0
    # One whose phase nobody knows counts as none.
    rows(
        "INSERT INTO tidegate_schema_history (revision, phase, down, applied_at, duration_seconds, "
        "image, checksum) VALUES ('a', 'shrink', '{}', now(), 0, 'shop:0', '') RETURNING revision"
    )
    stamp = tidegate("stamp", "--adopt", "--image", "shop:1", "--config", project.config, "--json")
    assert [each["revision"] for each in answer(stamp)[1]["adopted"]] == ["a", "b", "c"]
    assert sorted(rows("SELECT revision, phase, image FROM tidegate_schema_history")) == [
        ("a", "expand", "shop:0"),
        ("b", "contract", "shop:1"),
        ("c", "expand", "shop:1"),
        ("d", "expand", "shop:2"),
    ]


def test_a_head_that_is_not_shipped_is_refused_with_its_name(
    kept_by_alembic: AlembicProject, tidegate: Tidegate, rows: Rows, tmp_path: Path
) -> None:
    older = AlembicProject(tmp_path / "older", ENV).revision("a")
    code, report = finish(tidegate("stamp", "--adopt", "--config", older.config, "--json"))
    assert (code, report.failure, report.revision) == (4, Failure.INCOMPATIBLE, "c")
    assert "the release that ships c" in report.hint
    assert rows("SELECT to_regclass('tidegate_schema_history')") == [(None,)]


def test_it_waits_for_the_lock_of_a_run_that_is_at_work(
    kept_by_alembic: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        stamp = ("stamp", "--adopt", "--config", kept_by_alembic.config, "--json")
        code, report = finish(tidegate(*stamp, "--lock-timeout", "0"))
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)


def test_without_adopt_it_names_what_does_the_rest(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    code, report = finish(tidegate("stamp", "--config", project.config, "--json"))
    assert code == 2
    assert "--adopt" in report.hint
    assert "`alembic stamp`" in report.hint
