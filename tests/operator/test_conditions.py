from datetime import UTC, datetime
from itertools import permutations

from tidegate_operator.conditions import Finding, merge
from tidegate_operator.reasons import Reason, Type

NOW = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)
FINDINGS = (
    Finding(Type.READY, "True", Reason.READY, "yes"),
    Finding(Type.MIGRATED, "True", Reason.MIGRATED, "yes"),
    Finding(Type.ROLLED_OUT, "True", Reason.ROLLED_OUT, "yes"),
)


def test_conditions_come_in_one_order_however_they_were_found() -> None:
    merged = {str(merge((), order, 1, NOW)) for order in permutations(FINDINGS)}
    assert len(merged) == 1


def test_a_new_reason_or_generation_keeps_the_transition_time_of_the_status() -> None:
    first = merge((), FINDINGS[1:2], 1, NOW)
    nothing = Finding(Type.MIGRATED, "True", Reason.NOTHING_TO_DO, "again")
    (again,) = merge(first, [nothing], 2, datetime(2027, 1, 1, tzinfo=UTC))
    assert again["lastTransitionTime"] == "2026-11-20T10:05:00Z"
    assert (again["reason"], again["observedGeneration"]) == ("NothingToDo", 2)


def test_a_new_status_moves_the_transition_time() -> None:
    first = merge((), FINDINGS[1:2], 1, NOW)
    broken = Finding(Type.MIGRATED, "False", Reason.MIGRATION_ERROR, "no")
    (again,) = merge(first, [broken], 1, datetime(2027, 1, 1, tzinfo=UTC))
    assert again["lastTransitionTime"] == "2027-01-01T00:00:00Z"


def test_a_message_is_cut_to_what_the_api_server_takes() -> None:
    long = Finding(Type.READY, "False", Reason.NO_REPORT, "x" * 100_000)
    assert len(merge((), [long], 1, NOW)[0]["message"]) == 32768


def test_a_condition_of_another_operator_version_is_dropped() -> None:
    old = {"type": "Soaked", "status": "True"}
    assert [entry["type"] for entry in merge([old], FINDINGS, 1, NOW)] == list(Type)
