"""The verdict and the report, over generated histories."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graphs import World, worlds
from tidegate.schema import (
    HISTORY_TABLE,
    INSTANCES_TABLE,
    UNFINISHED_TABLE,
    Applied,
    AppliedRevision,
    Difference,
    Failure,
    Manifest,
    Outcome,
    Phase,
    Report,
    Revision,
    Verdict,
    compare,
    judge,
    own_table,
)

EXPAND, CONTRACT = Phase.EXPAND, Phase.CONTRACT


@given(worlds(all_rows=True))
def test_with_a_whole_history_the_difference_is_exactly_the_two_set_differences(
    world: World,
) -> None:
    difference = compare(world.manifest, world.database)
    assert set(difference.pending) == world.shipped - world.applied
    assert set(difference.ahead) == world.applied - world.shipped
    for name, phase in [*difference.pending.items(), *difference.ahead.items()]:
        assert phase is world.revisions[name].phase


@given(worlds())
def test_equal_heads_need_no_history(world: World) -> None:
    manifest = Manifest.of(world.revisions[name] for name in sorted(world.applied))
    database = Applied(heads=world.database.heads)
    assert judge(compare(manifest, database)) is Verdict.CURRENT


@pytest.mark.parametrize(
    ("pending", "ahead", "verdict"),
    [
        ({}, {}, Verdict.CURRENT),
        ({"a": CONTRACT}, {}, Verdict.CONTRACT_PENDING),
        ({"a": EXPAND}, {}, Verdict.BEHIND),
        ({"a": CONTRACT, "b": EXPAND}, {}, Verdict.BEHIND),
        ({}, {"a": EXPAND}, Verdict.AHEAD_COMPATIBLE),
        ({"b": CONTRACT}, {"a": EXPAND}, Verdict.AHEAD_COMPATIBLE),
        ({"b": EXPAND}, {"a": EXPAND}, Verdict.BEHIND),
        ({}, {"a": None, "b": EXPAND}, Verdict.UNKNOWN),
        ({"c": EXPAND}, {"a": None}, Verdict.UNKNOWN),
        ({"c": EXPAND}, {"a": None, "b": CONTRACT}, Verdict.AHEAD_INCOMPATIBLE),
        ({}, {"a": CONTRACT}, Verdict.AHEAD_INCOMPATIBLE),
    ],
)
def test_the_most_severe_verdict_wins(
    pending: dict[str, Phase], ahead: dict[str, Phase | None], verdict: Verdict
) -> None:
    assert judge(Difference(pending, ahead)) is verdict


def test_a_database_that_cannot_be_read_is_unknown() -> None:
    assert judge(None) is Verdict.UNKNOWN


def test_a_database_without_revisions_is_behind_and_an_image_without_any_is_current() -> None:
    one = Manifest.of([Revision("a")])
    assert judge(compare(one, Applied())) is Verdict.BEHIND
    assert judge(compare(Manifest(), Applied())) is Verdict.CURRENT


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40)
reports = st.builds(
    lambda pending, ahead, **rest: Report(
        pending=pending, ahead=ahead, verdict=judge(Difference(pending, ahead)), **rest
    ),
    outcome=st.sampled_from(Outcome),
    image=names,
    heads=st.lists(names, max_size=5).map(tuple),
    applied=st.lists(
        st.builds(AppliedRevision, names, st.sampled_from(Phase), st.floats(0, 1e6)), max_size=60
    ).map(tuple),
    pending=st.dictionaries(names, st.sampled_from(Phase), max_size=80),
    ahead=st.dictionaries(names, st.sampled_from([*Phase, None]), max_size=80),
    seconds=st.floats(0, 1e6),
    failure=st.none() | st.sampled_from(Failure),
    message=st.text(st.characters(codec="utf-8"), max_size=6000),
    hint=st.text(st.characters(codec="utf-8"), max_size=300),
)


@given(reports)
def test_a_report_survives_the_wire(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@given(reports)
def test_a_report_always_fits_the_termination_message_and_keeps_its_verdict(
    report: Report,
) -> None:
    text = report.to_json(Report.LIMIT)
    assert len(text.encode()) <= 4096
    short = Report.from_json(text)
    assert judge(Difference(short.pending, short.ahead)) is short.verdict is report.verdict
    assert (short.failure, short.outcome) == (report.failure, report.outcome)
    assert (short.omitted > 0) == (len(report.to_json().encode()) > 4096)


@given(worlds())
def test_a_manifest_survives_the_file(world: World) -> None:
    assert Manifest.from_json(world.manifest.to_json()) == world.manifest


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"revisions":[{"id":"a"}]}', "null"])
def test_what_is_no_manifest_or_report_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="not a schema manifest"):
        Manifest.from_json(text)
    with pytest.raises(ValueError, match="not a migration report"):
        Report.from_json(text)


def test_the_schema_module_loads_neither_fastapi_nor_sqlalchemy() -> None:
    code = (
        "import tidegate.schema, sys; "
        "print({'fastapi', 'starlette', 'pydantic', 'sqlalchemy', 'alembic'} & set(sys.modules))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.strip() == "set()"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=63)


@given(NAMES, NAMES)
def test_each_version_table_has_tables_of_its_own_under_names_that_postgresql_keeps_whole(
    one: str, other: str
) -> None:
    tables = (HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE)
    for table in tables:
        assert len(own_table(table, one).encode()) <= 63
    ours, theirs = ({own_table(table, name) for table in tables} for name in (one, other))
    assert (ours & theirs == set()) is (one != other)


def test_beside_alembics_own_version_table_they_have_their_plain_names() -> None:
    assert own_table(HISTORY_TABLE, "") == own_table(HISTORY_TABLE, "alembic_version")
    assert own_table(HISTORY_TABLE, "alembic_version") == "tidegate_schema_history"
    assert own_table(HISTORY_TABLE, "my_version") == "tidegate_schema_history_my_version"
