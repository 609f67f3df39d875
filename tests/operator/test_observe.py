"""The status is decided by one pure function; these are its promises."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.golden import DATA, NAMES, NOW, expected, read, status_of
from tidegate.schema import (
    AppliedRevision,
    Difference,
    Failure,
    Outcome,
    Phase,
    Report,
    Verdict,
    judge,
)
from tidegate_operator.conditions import timestamp
from tidegate_operator.models import Attempt, Deployment, Gate, Job
from tidegate_operator.observe import observe, verdict_of

Status = dict[str, Any]

words = st.sampled_from(["", "0001", "0002", "it broke", "orders:1"])
revisions = st.sampled_from(["0001", "0002", "0003"])
moments = st.integers(1, 1_000_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
stamps = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
reports = st.builds(
    Report,
    outcome=st.sampled_from(Outcome),
    verdict=st.sampled_from(Verdict),
    image=words,
    heads=st.lists(revisions, unique=True).map(tuple),
    applied=st.lists(
        st.builds(AppliedRevision, revisions, st.sampled_from(Phase), st.just(0.5)), max_size=2
    ).map(tuple),
    pending=st.dictionaries(revisions, st.sampled_from(Phase), max_size=2),
    ahead=st.dictionaries(revisions, st.sampled_from([None, *Phase]), max_size=2),
    failure=st.sampled_from([None, *Failure]),
    revision=words,
    message=words,
    hint=words,
)
deployments = st.none() | st.builds(
    Deployment,
    name=st.just("orders"),
    images=st.frozensets(words, max_size=2),
    generation=st.integers(1, 3),
    observed_generation=st.integers(0, 3),
    paused=st.booleans(),
    replicas=st.integers(0, 3),
    total=st.integers(0, 4),
    updated=st.integers(0, 3),
    available=st.integers(0, 3),
    progressing=st.sampled_from(
        ["", "NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"]
    ),
)
jobs = st.none() | st.builds(
    Job,
    name=st.just("orders-migrate"),
    created_at=stamps,
    images=st.frozensets(words, max_size=2),
    suspended=st.booleans(),
    result=st.sampled_from([None, "Complete", "Failed"]),
    ended_at=stamps,
    reason=words,
    message=words,
)
attempts = st.just(Attempt()) | st.builds(
    Attempt,
    pod=st.just("orders-migrate-a"),
    ended_at=st.just("") | stamps,
    report=st.none() | reports,
    words=words,
    hint=words,
    is_out_of_time=st.booleans(),
    waiting=words,
    is_running=st.booleans(),
)
histories = st.lists(st.tuples(deployments, jobs, attempts, moments), min_size=1, max_size=4)


def live(history: list[tuple[Deployment | None, Job | None, Attempt, datetime]]) -> list[Status]:
    """Give the statuses that a gate goes through."""
    statuses: list[Status] = [{}]
    for deployment, job, attempt, now in history:
        gate = Gate("shop", "orders", "orders", status=statuses[-1])
        statuses.append(observe(gate, deployment, job, attempt, now))
    return statuses[1:]


def conditions(status: Status) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in status["conditions"]}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_api_server_says_gives_the_golden_status(name: str) -> None:
    assert status_of(read(name)) == expected(name)


def test_every_golden_input_has_an_output() -> None:
    assert sorted(path.stem for path in (DATA / "output").glob("*.yaml")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_looking_again_later_changes_nothing(name: str) -> None:
    given = read(name)
    given["gate"]["status"] = expected(name)
    assert status_of(given, NOW + timedelta(days=1)) == expected(name)


@given(histories)
def test_ready_is_true_exactly_when_migrated_and_rolled_out_are(
    history: list[tuple[Deployment | None, Job | None, Attempt, datetime]],
) -> None:
    for status in live(history):
        found = conditions(status)
        parts = [found["Migrated"], found["RolledOut"]]
        assert (found["Ready"]["status"] == "True") == all(
            part["status"] == "True" for part in parts
        )
        first = next((part for part in parts if part["status"] != "True"), None)
        if first:
            assert (found["Ready"]["status"], found["Ready"]["reason"]) == (
                first["status"],
                first["reason"],
            )


@given(histories)
def test_the_same_facts_give_the_same_status_at_any_time(
    history: list[tuple[Deployment | None, Job | None, Attempt, datetime]],
) -> None:
    last = history[-1]
    *_, once, twice = live([*history, (*last[:3], last[3] + timedelta(days=1))])
    assert once == twice


@given(histories)
def test_a_transition_time_moves_exactly_with_its_status(
    history: list[tuple[Deployment | None, Job | None, Attempt, datetime]],
) -> None:
    statuses = live(history)
    for (before, after), (*_, now) in zip(pairwise(statuses), history[1:], strict=True):
        for type_, was in conditions(before).items():
            is_ = conditions(after)[type_]
            same = is_["status"] == was["status"]
            kept = was["lastTransitionTime"]
            assert is_["lastTransitionTime"] == (kept if same else timestamp(now))


@given(jobs.filter(lambda job: job is not None and job.result is not None), attempts)
def test_the_verdict_is_that_of_the_one_function(job: Job, attempt: Attempt) -> None:
    status = observe(Gate("shop", "orders", "orders"), None, job, attempt, NOW)
    report = attempt.report
    if report is None or (report.verdict == "unknown" and None not in report.ahead.values()):
        assert status["verdict"] == "unknown"
    else:
        assert status["verdict"] == judge(Difference(report.pending, report.ahead))


def test_a_run_that_could_not_read_the_database_is_not_taken_for_current() -> None:
    nothing_seen = Report(Outcome.FAILED, Verdict.UNKNOWN, failure=Failure.UNREACHABLE)
    assert verdict_of(nothing_seen) is Verdict.UNKNOWN


def test_a_job_of_the_same_name_is_not_taken_for_the_one_before() -> None:
    """Helm makes each release's Job under one name; the pods of the new one may be gone too."""
    told = status_of(read("migrated-and-rolled-out"))
    gate = Gate("shop", "orders", "orders", status=told)
    anew = Job("orders-migrate", created_at="2026-11-21T10:00:00Z", result="Failed")
    migrated = conditions(observe(gate, None, anew, Attempt(), NOW))["Migrated"]
    assert migrated["reason"] == "NoReport"


def test_what_a_pod_lacked_is_told_until_a_new_try_runs() -> None:
    """The pod itself does not tell any more after its deadline, and the new one not at first."""
    given = read("never-started-and-not-tried-again-yet")
    anew = {"name": "orders-migrate-b", "creationTimestamp": "2026-11-20T10:04:25Z"}
    for state, words in (
        ({"waiting": {"reason": "ContainerCreating"}}, "The pod of Job orders-migrate does not"),
        ({"running": {}}, "Job orders-migrate runs. The try before failed: DeadlineExceeded"),
    ):
        status: Status = {"containerStatuses": [{"name": "migrate", "state": state}]}
        tried = {**given, "pods": [*given["pods"], {"metadata": anew, "status": status}]}
        assert conditions(status_of(tried))["Migrated"]["message"].startswith(words)
