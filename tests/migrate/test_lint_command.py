"""`tidegate migrate lint`: a judgement for CI, with a database or without."""

from __future__ import annotations

import pytest

from tests.migrate.conftest import Tidegate, answer, finish
from tests.migrate.project import AlembicProject


@pytest.fixture
def shop(project: AlembicProject) -> AlembicProject:
    """A project with a destructive revision between two harmless ones."""
    project.revision("a", sql="CREATE TABLE t (x int, y int)")
    project.revision("b", "a", sql="ALTER TABLE t DROP y")
    return project.revision("c", "b", sql="ALTER TABLE t ADD z int")


def test_a_pull_request_is_judged_without_a_database(
    shop: AlembicProject, tidegate: Tidegate
) -> None:
    lint = ("lint", "--config", shop.config, "--json")
    file = shop.config.parent / "versions" / "b.py"
    package = file.with_name("__init__.py")
    package.touch()
    for arguments, code in (
        (["--all"], 6),
        (["--since", "a"], 6),
        (["--since", "b"], 0),
        (["b"], 6),
        ([file], 6),
        (["a", "c"], 0),
        ([package], 0),
        ([package, file], 6),
    ):
        result, told = answer(tidegate(*lint, *arguments, DATABASE_URL=""))
        assert result == code, arguments
        assert told.get("failure") == ("lint" if code else None)
        assert [each["revision"] for each in told["findings"]] == (["b"] if code else [])


def test_what_is_pending_in_a_database_is_judged_and_what_is_applied_is_not(
    shop: AlembicProject, tidegate: Tidegate
) -> None:
    lint = ("lint", "--config", shop.config)
    run = tidegate(*lint)
    output, _ = run.communicate(timeout=120)
    assert (run.returncode, output.split(":")[0]) == (0, "nothing to judge")
    assert finish(tidegate("up", "--config", shop.config, "--json", "--to", "a"))[0] == 0
    run = tidegate(*lint)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 6
    assert "b.py:" in output
    assert output.endswith("2 revisions: 1 error\n")
    ignoring = 'lint_ignore = {"drop-column": "never released"}'
    shop.written("b", "a", body='op.execute("ALTER TABLE t DROP y")', head=ignoring)
    run = tidegate(*lint)
    output, _ = run.communicate(timeout=120)
    assert (run.returncode, output.splitlines()[-1]) == (0, "2 revisions: 1 ignored finding")


def test_a_revision_or_file_that_is_not_there_is_named(
    shop: AlembicProject, tidegate: Tidegate
) -> None:
    for name in ("nonsense", "elsewhere/b.py"):
        code, told = answer(tidegate("lint", "--config", shop.config, "--json", name))
        assert (code, told["failure"]) == (2, "settings")
        assert name in told["message"]
