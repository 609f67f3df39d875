import re
from pathlib import Path

import yaml

from tests.operator.world import one, render, rights
from tidegate.schema import Failure, Outcome, Verdict
from tidegate_operator.reasons import MEANINGS, OF_FAILURE, Reason

DOCS = Path(__file__).parents[2] / "docs" / "operator.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    section = DOCS.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_docs_tell_every_reason_with_its_meaning_and_what_to_do() -> None:
    told = {reason.strip("`"): meaning for _, reason, meaning, _ in rows("Conditions")}
    assert told == {reason.value: meaning for reason, meaning in MEANINGS.items()}
    assert all(todo for *_, todo in rows("Conditions"))


def test_the_docs_tell_the_way_out_of_a_rollback_that_was_refused() -> None:
    """Helm leaves it `pending-rollback`, and then refuses every upgrade."""
    todo = {reason.strip("`"): todo for _, reason, _, todo in rows("Conditions")}
    chart = DOCS.with_name("chart.md").read_text()
    for told in (todo["Incompatible"], chart):
        assert "`helm rollback RELEASE REVISION`" in " ".join(told.split())


def test_every_reason_has_a_meaning_and_is_one_word() -> None:
    assert set(MEANINGS) == set(Reason)
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", reason) for reason in Reason)


def test_every_failure_of_a_report_has_a_reason() -> None:
    assert set(OF_FAILURE) == set(Failure)


def test_the_docs_tell_the_rights_that_the_chart_grants() -> None:
    told = {
        (verb, yaml.safe_load(group) or "", resource)
        for group, resource, verbs, _ in rows("What it may do")
        for verb in verbs.split(", ")
    }
    assert told == rights(one(render(), "ClusterRole"))


def test_the_crd_allows_what_a_report_can_say() -> None:
    crd = one(render(), "CustomResourceDefinition")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    status = schema["properties"]["status"]["properties"]
    migration = status["migration"]["properties"]
    assert status["verdict"]["enum"] == list(Verdict)
    assert migration["outcome"]["enum"] == list(Outcome)
    assert set(migration["failure"]["enum"]) == set(Failure)
