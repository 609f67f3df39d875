"""`tidegate migrate history`: what was applied, and whether the files still say the same."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.migrate.conftest import Tidegate, answer, finish
from tests.migrate.project import AlembicProject

IGNORING = 'lint_ignore = {"drop-column": "never released"}'


def test_each_row_is_told_and_held_against_the_file_that_is_shipped(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    project = AlembicProject(tmp_path / "all").revision("a").revision("b", "a", phase="contract")
    project.written("c", "b", body="pass", head=IGNORING)
    up = tidegate("up", "--config", project.config, "--json", TIDEGATE_IMAGE="shop:1")
    assert finish(up)[0] == 0
    project.revision("b", "a", sql="SELECT 2", phase="contract")
    shorter = AlembicProject(tmp_path / "shorter").revision("a").revision("b", "a", sql="SELECT 3")
    code, told = answer(tidegate("history", "--config", project.config, "--json"))
    assert code == 0
    assert [
        (row["revision"], row["phase"], row["image"], row["file"], row["is_applied"])
        for row in told["history"]
    ] == [
        ("a", "expand", "shop:1", "same", True),
        ("b", "contract", "shop:1", "changed", True),
        ("c", "expand", "shop:1", "same", True),
    ]
    assert told["history"][2]["lint_ignored"] == {"drop-column": "never released"}
    _, told = answer(tidegate("history", "--config", shorter.config, "--json"))
    assert [row["file"] for row in told["history"]] == ["same", "changed", "not shipped"]


def test_a_person_reads_a_table_and_what_is_missing_in_it(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a").revision("b", "a").revision("c", "b")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM tidegate_schema_history WHERE revision = 'a'")
        connection.execute("UPDATE alembic_version SET version_num = 'b'")
    output, _ = tidegate("history", "--config", project.config).communicate(timeout=120)
    heading, first, second, last = output.splitlines()
    assert heading.split()[:3] == ["revision", "phase", "applied"]
    assert (first.split()[0], second.split()[0]) == ("b", "c")
    assert "taken back" in second
    assert last.startswith("no row: 1 applied revision;")
