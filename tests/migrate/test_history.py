"""`tidegate migrate history`: what was applied, and whether the files still say the same."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg

from tests.migrate.conftest import Rows, Tidegate, answer, finish
from tests.migrate.project import AlembicProject
from tidegate.schema import Failure

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


def test_the_row_is_written_by_the_statement_that_writes_the_version(
    project: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    for name, *down in (("a",), ("b", "a")):  # the first version is inserted, the other updated
        project.revision(name, *down)
        assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
        assert rows(
            "SELECT h.revision, h.xmin = v.xmin AND h.cmin = v.cmin FROM alembic_version v "
            "JOIN tidegate_schema_history h ON h.revision = v.version_num"
        ) == [(name, True)]


def test_a_row_that_may_not_be_written_takes_the_revision_back_and_says_what_is_lacking(
    project: AlembicProject, tidegate: Tidegate, database_url: str, postgres: str, rows: Rows
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    role = "poor_" + uuid4().hex[:8]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN; ALTER TABLE t OWNER TO {role}".encode())
        connection.execute(f"GRANT ALL ON alembic_version TO {role}".encode())
        connection.execute(f"GRANT SELECT ON tidegate_schema_history TO {role}".encode())
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
        poor = database_url.replace("postgres@", f"{role}@")
        project.revision("b", "a", sql="ALTER TABLE t ADD y int")
        code, report = finish(
            tidegate("up", "--config", project.config, "--json", DATABASE_URL=poor)
        )
        connection.execute(f"DROP OWNED BY {role} CASCADE".encode())
        connection.execute(f"DROP ROLE {role}".encode())
    assert (code, report.failure, report.heads) == (2, Failure.SETTINGS, ("a",)), report
    assert "permission denied for table tidegate_schema_history" in report.message
    assert "grant the role what it lacks" in report.hint


def test_what_a_lint_exception_says_wrongly_is_not_kept_and_an_older_runners_row_of_it_is_read(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.written("a", head='lint_ignore = ["drop-column"]', body="pass")
    mixed = 'lint_ignore = {"drop-column": "never released", 1: "one", None: 2, "index": None}'
    project.written("b", "a", head=mixed, body="pass")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    reading = ("history", "--config", project.config, "--json")
    kept = [row["lint_ignored"] for row in answer(tidegate(*reading))[1]["history"]]
    assert kept == [{}, {"drop-column": "never released"}]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE tidegate_schema_history SET lint_ignored = '[\"drop-column\"]'")
    code, told = answer(tidegate(*reading))
    assert (code, [row["lint_ignored"] for row in told["history"]]) == (0, [{}, {}])


def test_whatever_an_image_and_a_reason_are_called_is_kept_as_it_is(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    reason = "50 % of \\ it's :gone {now}"
    project.written("a", head=f"lint_ignore = {{'drop-column': {reason!r}}}", body="pass")
    project.revision("b", "a", sql="SET standard_conforming_strings = off")
    project.revision("c", "b")
    name = r"it's 50 %s \' :of {a}"
    up = tidegate("up", "--config", project.config, "--json", TIDEGATE_IMAGE=name)
    assert finish(up)[0] == 0
    _, told = answer(tidegate("history", "--config", project.config, "--json"))
    assert [row["image"] for row in told["history"]] == [name] * 3
    assert told["history"][0]["lint_ignored"] == {"drop-column": reason}


def test_a_database_that_writes_dates_in_its_own_way_is_read_like_any_other(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET DateStyle = 'German'".encode())
    project.revision("a")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    for command in ("history", "status", "wait", "plan"):
        code, _ = answer(tidegate(command, "--config", project.config, "--json"))
        assert code == 0, command


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
