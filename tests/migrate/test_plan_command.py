"""`tidegate migrate plan`: what `up` would do, before it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migrate.conftest import Rows, Tidegate, answer, finish
from tests.migrate.project import AlembicProject

CONCURRENTLY = """
op.execute("ALTER TABLE t ADD y int")
with op.get_context().autocommit_block():
    op.create_index("t_x", "t", ["x"], postgresql_concurrently=True)
"""


@pytest.fixture
def released(project: AlembicProject, tidegate: Tidegate) -> AlembicProject:
    """A project whose first revision is applied, and three that are pending."""
    project.revision("a", sql="CREATE TABLE t (x int, z int)")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    project.written("b", "a", body=CONCURRENTLY)
    project.revision("c", "b", sql="ALTER TABLE t DROP z", phase="contract")
    return project.revision("d", "c", sql="CREATE TABLE u (x int); CREATE INDEX u_x ON u (x)")


def test_it_tells_phase_by_phase_what_runs_what_it_locks_and_who_may_be_rolled_back_to(
    released: AlembicProject, tidegate: Tidegate
) -> None:
    code, told = answer(tidegate("plan", "--config", released.config, "--json"))
    assert (code, told["outcome"], told["verdict"]) == (0, "done", "behind")
    assert [(step["id"], step["phase"], step["when"]) for step in told["plan"]] == [
        ("b", "expand", "now"),
        ("c", "contract", "later"),
        ("d", "expand", "refused"),
    ]
    add, index = told["plan"][0]["statements"]
    assert (add["in_transaction"], add["locks"]) == (
        True,
        [{"table": "t", "mode": "ACCESS EXCLUSIVE", "waits": "reads and writes wait"}],
    )
    assert (index["in_transaction"], index["locks"][0]["waits"]) == (False, "")
    assert told["plan"][2]["statements"][1]["locks"] == []  # nobody uses a table that is new
    assert "release c first" in told["refusal"]["hint"]
    assert told["rollback"] == {"needs_now": [], "needs_after": []}
    everything = ("--phase", "all", "--nobody-runs-older")
    _, told = answer(tidegate("plan", "--config", released.config, "--json", *everything))
    assert {step["when"] for step in told["plan"]} == {"now"}
    assert told["rollback"] == {"needs_now": [], "needs_after": ["c"]}


def test_a_person_reads_the_same_without_colours_in_a_pipe(
    released: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    output, _ = tidegate("plan", "--config", released.config).communicate(timeout=120)
    assert "now, by this run:\n  b expand" in output
    assert "CREATE INDEX CONCURRENTLY t_x ON t (x);  -- outside of a transaction" in output
    assert "locks: ACCESS EXCLUSIVE on t (reads and writes wait)" in output
    assert "later, by `tidegate migrate up --phase contract`:\n  c contract" in output
    assert "an image that ships only up to a serves on" in output
    assert "\x1b" not in output
    assert rows("SELECT version_num FROM alembic_version") == [("a",)]


def test_a_dba_gets_the_sql_of_this_run_and_nothing_else(
    released: AlembicProject, tidegate: Tidegate
) -> None:
    output, _ = tidegate("plan", "--sql", "--config", released.config).communicate(timeout=120)
    assert [line for line in output.splitlines() if line] == [
        "-- revision b (expand)",
        "BEGIN;",
        "ALTER TABLE t ADD y int;",
        "COMMIT;",
        "CREATE INDEX CONCURRENTLY t_x ON t (x);",
    ]


def test_it_informs_with_0_unless_it_is_asked_what_up_would_answer(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    plan = ("plan", "--config", project.config, "--json")
    project.revision("a", sql="CREATE TABLE t (x int, y int)")
    assert answer(tidegate(*plan, "--detailed-exitcode"))[0] == 0
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    assert answer(tidegate(*plan))[0] == 0
    assert answer(tidegate(*plan, "--detailed-exitcode"))[0] == 10
    project.revision("b", "a", sql="ALTER TABLE t DROP y", phase="contract")
    assert answer(tidegate(*plan, "--detailed-exitcode"))[0] == 10  # not by an expand run
    project.revision("b", "a", sql="ALTER TABLE t DROP y")
    assert answer(tidegate(*plan))[0] == 0
    code, told = answer(tidegate(*plan, "--detailed-exitcode"))
    assert (code, told["findings"][0]["rule"]) == (6, "drop-column")
    code, _ = answer(tidegate(*plan, "--detailed-exitcode", "--to", "a"))
    assert code == 10  # what is left out of the run does not stop it


def test_an_image_that_the_schema_has_left_behind_is_told_so_as_a_plan(
    tmp_path: Path, tidegate: Tidegate
) -> None:
    old = AlembicProject(tmp_path / "old").revision("a")
    new = AlembicProject(tmp_path / "new").revision("a").revision("b", "a", phase="contract")
    assert finish(tidegate("up", "--config", new.config, "--json"))[0] == 0
    plan = ("plan", "--config", old.config, "--json")
    code, told = answer(tidegate(*plan))
    assert (code, told["verdict"], told["plan"]) == (0, "ahead-incompatible", [])
    assert told["refusal"]["revision"] == "b"
    assert told["rollback"]["needs_now"] == ["b"]
    assert answer(tidegate(*plan, "--detailed-exitcode"))[0] == 4


def test_a_password_that_a_revision_takes_from_its_environment_is_not_shown(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    takes = """op.execute("COMMENT ON TABLE t IS '%s'" % os.environ["DATABASE_URL"])"""
    project.written("a", body=takes, head="import os")
    url = database_url.replace("postgres@", "postgres:a-secret-word@")
    for how in ("--json", "--sql", "--phase=all"):
        run = tidegate("plan", "--config", project.config, how, DATABASE_URL=url)
        output, errors = run.communicate(timeout=120)
        assert "COMMENT ON TABLE t" in output
        assert "a-secret-word" not in output + errors
