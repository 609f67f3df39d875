"""What a SchemaGate's status says, decided from plain data. Pure: :func:`observe` is all of it.

The status is also the operator's only memory. A Job that is gone (Helm deletes the hook's Job
before it makes the next one) is remembered by what the status says of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tidegate.schema import Difference, Outcome, Report, Verdict, judge
from tidegate_operator.conditions import Finding, Truth, find, merge
from tidegate_operator.models import Attempt, Deployment, Gate, Job
from tidegate_operator.reasons import OF_FAILURE, Reason, Type

__all__ = ["observe", "verdict_of"]

_REMEMBERED = ("verdict", "image", "heads", "migration")


def observe(
    gate: Gate,
    deployment: Deployment | None,
    job: Job | None,
    attempt: Attempt,
    now: datetime,
) -> dict[str, Any]:
    """Give the status that the gate should have.

    Args:
        gate: the gate, with the status it has.
        deployment: the Deployment it names; ``None`` when there is none.
        job: its newest migration Job; ``None`` when there is none (any more).
        attempt: what that Job's pods tell.
        now: the time for conditions that change now.
    """
    facts: dict[str, Any] = {key: gate.status[key] for key in _REMEMBERED if key in gate.status}
    if job is None or _concluded_before(gate, job, attempt):
        migrated = _remembered(gate)
    elif job.result is None:
        migrated = _on_its_way(gate, job, attempt)
        facts["migration"] = _started(job) | {"message": migrated.message}
    elif attempt.report is None:
        message = _how_it_went(gate, job, attempt)
        migrated = _without_report(job, message, attempt)
        facts = _unknown(job)
        facts["migration"] = _unreported(job, attempt) | {"message": message}
    else:
        migrated = _reported(job, attempt, attempt.report)
        facts = _told(attempt.report)
        facts["migration"] = _migration(job, attempt, attempt.report)
    rolled_out = _rolled_out(gate, deployment)
    ready = _ready(migrated, rolled_out, deployment, str(facts.get("image", "")))
    return {
        "observedGeneration": gate.generation,
        **facts,
        "conditions": merge(
            gate.status.get("conditions", ()),
            (ready, migrated, rolled_out),
            gate.generation,
            now,
        ),
    }


def verdict_of(report: Report) -> Verdict:
    """Judge what the report says of the database; unknown where its run could not read it."""
    unread = report.verdict is Verdict.UNKNOWN and None not in report.ahead.values()
    return judge(None if unread else Difference(report.pending, report.ahead))


def _told(report: Report) -> dict[str, Any]:
    facts: dict[str, Any] = {"verdict": verdict_of(report).value, "image": report.image}
    facts["heads"] = sorted(set(report.heads))
    return {key: value for key, value in facts.items() if value}


def _unknown(job: Job) -> dict[str, Any]:
    """What holds after a run that nobody knows anything of: it may have changed the schema."""
    facts = {"verdict": Verdict.UNKNOWN.value}
    return facts | ({"image": min(job.images)} if len(job.images) == 1 else {})


def _started(job: Job) -> dict[str, Any]:
    return {"job": job.name, "startedAt": job.created_at}


def _migration(job: Job, attempt: Attempt, report: Report) -> dict[str, Any]:
    told: dict[str, Any] = {
        "finishedAt": attempt.ended_at or job.ended_at,
        "outcome": report.outcome.value,
    }
    if report.outcome is Outcome.FAILED:
        told["failure"] = report.failure.value if report.failure else ""
        told["revision"] = report.revision
        told["message"] = report.message
        told["hint"] = report.hint
    return _started(job) | {key: value for key, value in told.items() if value}


def _unreported(job: Job, attempt: Attempt) -> dict[str, Any]:
    told: dict[str, Any] = {
        "finishedAt": attempt.ended_at or job.ended_at,
        "outcome": Outcome.FAILED.value if job.result == "Failed" else "",
        "hint": attempt.hint,
    }
    return _started(job) | {key: value for key, value in told.items() if value}


def _is_known(gate: Gate, job: Job) -> bool:
    """Whether the status speaks of this very Job, not of an older one of the same name."""
    before = gate.status.get("migration") or {}
    return (before.get("job"), before.get("startedAt")) == (job.name, job.created_at)


def _concluded_before(gate: Gate, job: Job, attempt: Attempt) -> bool:
    """Whether the Job's end was told already, and its pods do not say more of it (any more)."""
    told = "finishedAt" in (gate.status.get("migration") or {})
    mute = not attempt.pod or _never_ran(attempt)
    return job.result is not None and mute and told and _is_known(gate, job)


def _never_ran(attempt: Attempt) -> bool:
    """Whether a pod failed before a container ran: then it does not say any more what it lacked."""
    return bool(attempt.words) and not attempt.ended_at


def _told_while_it_ran(gate: Gate, job: Job) -> str:
    before = find(gate.status.get("conditions", ()), Type.MIGRATED) or {}
    known = before.get("reason") == Reason.MIGRATING and _is_known(gate, job)
    return str(before.get("message", "")) if known else ""


def _remembered(gate: Gate) -> Finding:
    """Say what the status says of a Job that is gone, or that there never was one."""
    before = find(gate.status.get("conditions", ()), Type.MIGRATED) or {}
    known = {reason.value for reason in Reason}
    if before.get("reason") not in known - {Reason.MIGRATING, Reason.NO_MIGRATION_JOB}:
        return Finding(
            Type.MIGRATED,
            "Unknown",
            Reason.NO_MIGRATION_JOB,
            f"No migration Job has reported. Its label must be tidegate.dev/schemagate: {gate.name}"
            "; the service's chart makes it on `helm upgrade` with migrations.strategy: hook.",
        )
    return Finding(
        Type.MIGRATED, before["status"], Reason(before["reason"]), before.get("message", "")
    )


def _on_its_way(gate: Gate, job: Job, attempt: Attempt) -> Finding:
    before = _told_while_it_ran(gate, job)
    if job.suspended:
        message = f"Job {job.name} is suspended. Set its spec.suspend to false to let it run."
    elif attempt.waiting:
        message = _sentence(f"The pod of Job {job.name} does not start: {attempt.waiting}")
    elif before and _never_ran(attempt) and not attempt.is_running:
        return Finding(Type.MIGRATED, "False", Reason.MIGRATING, before)
    else:
        message = f"Job {job.name} runs."
    report = attempt.report
    if report is not None and report.outcome is Outcome.FAILED:
        message += f" The try before failed. {_failure(report)}"
    elif attempt.words:
        message += f" The try before failed: {_sentence(attempt.words)}"
    return Finding(Type.MIGRATED, "False", Reason.MIGRATING, message)


def _how_it_went(gate: Gate, job: Job, attempt: Attempt) -> str:
    ended = "succeeded" if job.result == "Complete" else "failed"
    if job.reason and job.result == "Failed":
        ended += f" ({_and_why(job.reason, job.message)})"
    message = f"Job {job.name} {ended} and left no report"
    before = _told_while_it_ran(gate, job)
    if attempt.words:
        message = _sentence(f"{message}; pod {attempt.pod}: {attempt.words}")
        return f"{message} Before that: {before}" if before and _never_ran(attempt) else message
    rest = f"Before that: {before}" if before else "See the namespace's events."
    return f"{message}; its pods are gone. {rest}"


def _without_report(job: Job, message: str, attempt: Attempt) -> Finding:
    # A Job that succeeded may well have migrated: its command is not ours, or writes elsewhere.
    status: Truth = "Unknown" if job.result == "Complete" else "False"
    message = f"{message} {attempt.hint}" if attempt.hint else message
    return Finding(Type.MIGRATED, status, Reason.NO_REPORT, message)


def _reported(job: Job, attempt: Attempt, report: Report) -> Finding:
    at = ", ".join(sorted(report.heads)) or "no revision"
    if report.outcome is Outcome.FAILED:
        reason = OF_FAILURE[report.failure] if report.failure else Reason.MIGRATION_ERROR
        message = _failure(report)
        if reason is Reason.TERMINATED and attempt.is_out_of_time:
            message += (
                f" The deadline of Job {job.name} ended it: raise migrations.activeDeadlineSeconds "
                "and Helm's --timeout."
            )
        return Finding(Type.MIGRATED, "False", reason, message)
    although = ""
    if job.result == "Failed":
        why = _and_why(job.reason, job.message)
        although = f" Kubernetes counts the Job as failed all the same: {why}"
    if report.outcome is Outcome.NOTHING_TO_DO:
        message = f"The schema was at {at} already.{although}"
        return Finding(Type.MIGRATED, "True", Reason.NOTHING_TO_DO, message)
    count = len(report.applied)
    applied = f"Applied {', '.join(revision.id for revision in report.applied)}" if count else ""
    message = f"{applied or 'Applied what was pending'}; the schema is at {at}.{although}"
    return Finding(Type.MIGRATED, "True", Reason.MIGRATED, message)


def _failure(report: Report) -> str:
    where = f" at revision {report.revision}" if report.revision else ""
    image = f" of {report.image}" if report.image else ""
    message = report.message.strip() or "it gave no message"
    said = _sentence(f"The migration{image} failed{where}: {message}")
    hint = report.hint.strip()
    return f"{said} {_capital(_sentence(hint))}" if hint else said


def _rolled_out(gate: Gate, deployment: Deployment | None) -> Finding:
    if deployment is None:
        return Finding(
            Type.ROLLED_OUT,
            "False",
            Reason.DEPLOYMENT_NOT_FOUND,
            f"Namespace {gate.namespace} has no Deployment {gate.deployment_name}. Install the "
            "service, or correct spec.deploymentName of this SchemaGate.",
        )
    name = deployment.name
    seen = deployment.observed_generation >= deployment.generation
    if seen and deployment.progressing == "ProgressDeadlineExceeded":
        return Finding(
            Type.ROLLED_OUT,
            "False",
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"Deployment {name} is stuck: {deployment.message or 'no progress in time.'} "
            f"See why with `kubectl --namespace {gate.namespace} describe pods`; "
            "`helm rollback` returns to the release before.",
        )
    # Once complete, a rollout stays so: scaling, or a pod that dies, is no release.
    complete = deployment.progressing == "NewReplicaSetAvailable" or (
        deployment.updated >= deployment.replicas and deployment.available >= deployment.updated
    )
    if seen and complete and deployment.total <= deployment.updated:
        return Finding(
            Type.ROLLED_OUT,
            "True",
            Reason.ROLLED_OUT,
            f"Every pod of Deployment {name} runs its newest template.",
        )
    if not seen:
        message = f"Deployment {name} has changed; its controller has not begun yet."
    else:
        message = (
            f"Deployment {name}: {deployment.updated} of {deployment.replicas} pods are new, "
            f"{deployment.available} available, {max(0, deployment.total - deployment.updated)} "
            "old ones to go."
        )
    if deployment.paused:
        message += " It is paused: `kubectl rollout resume` lets it go on."
    return Finding(Type.ROLLED_OUT, "False", Reason.ROLLING_OUT, message)


def _ready(
    migrated: Finding, rolled_out: Finding, deployment: Deployment | None, image: str
) -> Finding:
    for finding in (migrated, rolled_out):
        if finding.status != "True":
            break
    else:
        return Finding(
            Type.READY, "True", Reason.READY, "The schema is migrated and the release rolled out."
        )
    message = finding.message
    failed = finding is migrated and finding.status == "False"
    if failed and finding.reason is not Reason.MIGRATING and deployment is not None:
        rolled, known = rolled_out.status == "True", image in deployment.images
        if rolled and known:
            message += f" Deployment {deployment.name} has this image already; its pods serve on."
        elif rolled:
            message += " Nothing was rolled: the pods of the release before serve on."
        elif known:
            message += f" Deployment {deployment.name} has this image already; its new pods wait."
    return Finding(Type.READY, finding.status, finding.reason, message)


def _and_why(reason: str, message: str) -> str:
    return ": ".join(part for part in (reason, message) if part) or "no reason given"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _capital(text: str) -> str:
    """Begin with a capital, unless the first word is code or a name: it must stay as it is."""
    first = text.split(maxsplit=1)[0].rstrip(",;:.").replace("-", "")
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() else text
