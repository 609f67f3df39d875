"""A history that was written before anybody declared a phase, half-way applied."""

from __future__ import annotations

import pytest

from tests.migrate.conftest import Rows, Tidegate, answer, finish
from tests.migrate.project import AlembicProject
from tidegate.schema import Failure, Phase, Verdict


@pytest.fixture
def half_way(project: AlembicProject, tidegate: Tidegate) -> AlembicProject:
    """A project at revision a; what is pending breaks older images, and blocks whoever is there."""
    project.revision("a", sql="CREATE TABLE t (x int, y int)")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    project.revision("b", "a", sql="ALTER TABLE t DROP y")
    return project.revision("c", "b", sql="CREATE INDEX t_x ON t (x)")


def test_it_is_refused_with_the_way_out_named(half_way: AlembicProject, tidegate: Tidegate) -> None:
    code, report = finish(tidegate("up", "--config", half_way.config, "--json"))
    assert (code, report.failure, report.heads) == (6, Failure.LINT, ("a",))
    assert "--nobody-runs-older" in report.hint


def test_with_the_service_stopped_it_is_applied_and_what_breaks_images_becomes_contract(
    half_way: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    stopped = ("--config", half_way.config, "--json", "--nobody-runs-older")
    code, told = answer(tidegate("plan", *stopped, "--detailed-exitcode"))
    assert code == 0
    assert {(each["revision"], each["ignored"]) for each in told["findings"]} == {
        ("b", "no older image runs (--nobody-runs-older)"),
        ("c", "no older image runs (--nobody-runs-older)"),
    }
    assert told["rollback"] == {"needs_now": [], "needs_after": ["b"]}
    code, report = finish(tidegate("up", *stopped))
    assert (code, report.verdict) == (0, Verdict.CURRENT), report
    assert {each.id: each.phase for each in report.applied} == {
        "b": Phase.CONTRACT,
        "c": Phase.EXPAND,
    }
    assert rows("SELECT revision, phase FROM tidegate_schema_history ORDER BY revision") == [
        ("a", "expand"),
        ("b", "contract"),
        ("c", "expand"),
    ]


@pytest.mark.parametrize(
    ("sql", "phase", "rule"),
    [
        ("COMMIT", "expand", "transaction-control"),
        ("CREATE INDEX t_y ON t (x)", "contract", "require-concurrent-index-creation"),
    ],
    ids=["what fails the run", "what a contract revision locks"],
)
def test_what_hurts_all_the_same_is_refused_all_the_same(
    sql: str, phase: str, rule: str, half_way: AlembicProject, tidegate: Tidegate
) -> None:
    half_way.revision("d", "c", sql=sql, phase=phase)
    stopped = ("--nobody-runs-older", "--phase", "all")
    code, report = finish(tidegate("up", *stopped, "--config", half_way.config, "--json"))
    assert (code, report.failure, report.revision, report.heads) == (6, Failure.LINT, "d", ("a",))
    assert rule in report.message
