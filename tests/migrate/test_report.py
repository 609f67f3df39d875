"""The report against the schema that others read it by."""

from __future__ import annotations

import json
from dataclasses import fields as dataclass_fields

import pytest
from hypothesis import given
from jsonschema import ValidationError  # type: ignore[import-untyped]

from tests.migrate.conftest import SCHEMA, VALIDATOR
from tests.unit.test_schema import reports
from tidegate.schema import Failure, Outcome, Phase, Report, Verdict


@given(reports)
def test_every_report_is_what_the_published_schema_says_whole_or_shortened(report: Report) -> None:
    VALIDATOR.validate(json.loads(report.to_json()))
    VALIDATOR.validate(json.loads(report.to_json(Report.LIMIT)))


def test_the_schema_knows_the_same_words_as_the_code() -> None:
    fields = SCHEMA["properties"]
    assert fields["outcome"]["enum"] == [each.value for each in Outcome]
    assert fields["verdict"]["enum"] == [each.value for each in Verdict]
    assert fields["failure"]["enum"] == [each.value for each in Failure]
    assert SCHEMA["$defs"]["phase"]["enum"] == [each.value for each in Phase]
    assert fields.keys() - {"version"} == {each.name for each in dataclass_fields(Report)}


def test_the_schema_refuses_what_no_report_says() -> None:
    plain = json.loads(Report(Outcome.DONE, Verdict.CURRENT).to_json())
    for wrong in ({"outcome": "finished"}, {"heads": "a"}, {"seconds": -1}):
        with pytest.raises(ValidationError):
            VALIDATOR.validate(plain | wrong)
