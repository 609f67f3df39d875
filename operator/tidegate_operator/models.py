"""What the operator reads, as plain data: the API server's JSON goes in, dataclasses come out.

Pure. A field that a server leaves out gets the value that Kubernetes means by its absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tidegate.schema import Report

__all__ = ["GATE_LABEL", "Attempt", "Deployment", "Gate", "Job", "newest_job", "read_attempt"]

GATE_LABEL = "tidegate.dev/schemagate"
"""On migration Jobs and their pods: the name of their SchemaGate."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gate:
    """A SchemaGate."""

    namespace: str
    name: str
    deployment_name: str
    generation: int = 1
    resource_version: str = ""
    status: Json = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Json) -> Gate:
        meta = body["metadata"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            deployment_name=body["spec"]["deploymentName"],
            generation=meta.get("generation", 1),
            resource_version=meta.get("resourceVersion", ""),
            status=body.get("status") or {},
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """A Deployment, as far as a rollout is concerned."""

    name: str
    images: frozenset[str] = frozenset()
    generation: int = 1
    observed_generation: int = 0
    paused: bool = False
    replicas: int = 1
    """How many pods are wanted."""
    total: int = 0
    updated: int = 0
    available: int = 0
    progressing: str = ""
    """The reason of its condition Progressing."""
    message: str = ""
    """The message of that condition."""

    @classmethod
    def from_json(cls, body: Json) -> Deployment:
        spec, status = body["spec"], body.get("status") or {}
        progressing = _condition(status, "Progressing") or {}
        return cls(
            name=body["metadata"]["name"],
            images=_images(spec),
            generation=body["metadata"].get("generation", 1),
            observed_generation=status.get("observedGeneration", 0),
            paused=spec.get("paused", False),
            replicas=spec.get("replicas", 1),
            total=status.get("replicas", 0),
            updated=status.get("updatedReplicas", 0),
            available=status.get("availableReplicas", 0),
            progressing=progressing.get("reason", ""),
            message=progressing.get("message", ""),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A migration Job."""

    name: str
    uid: str = ""
    created_at: str = ""
    images: frozenset[str] = frozenset()
    suspended: bool = False
    result: Literal["Complete", "Failed"] | None = None
    """How it ended; ``None`` while it runs."""
    ended_at: str = ""
    reason: str = ""
    message: str = ""

    @classmethod
    def from_json(cls, body: Json) -> Job:
        meta, status = body["metadata"], body.get("status") or {}
        job = cls(
            name=meta["name"],
            uid=meta.get("uid", ""),
            created_at=meta.get("creationTimestamp", ""),
            images=_images(body["spec"]),
            suspended=body["spec"].get("suspend", False),
        )
        results: tuple[Literal["Complete", "Failed"], ...] = ("Complete", "Failed")
        for result in results:
            condition = _condition(status, result)
            if condition and condition.get("status") == "True":
                return replace(
                    job,
                    result=result,
                    ended_at=condition.get("lastTransitionTime", ""),
                    reason=condition.get("reason", ""),
                    message=condition.get("message", ""),
                )
        return job


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a Job's pods tell: the newest one that ended, and what holds up the newest one."""

    pod: str = ""
    """The newest pod that ended; empty when none has."""
    ended_at: str = ""
    """Empty, too, when none of that pod's containers ever ran."""
    report: Report | None = None
    """What that pod reported; ``None`` when it left nothing that can be read."""
    words: str = ""
    """How that pod ended, in words, when it left no report."""
    hint: str = ""
    """What to do about that."""
    is_out_of_time: bool = False
    """Whether that pod ran into its deadline and reported all the same."""
    waiting: str = ""
    """Why the newest pod does not run yet, in words; empty when it runs or ended."""
    is_running: bool = False
    """Whether a container of the newest pod runs."""


def newest_job(jobs: Iterable[Job]) -> Job | None:
    """Return the Job that was made last."""
    return max(jobs, key=lambda job: (job.created_at, job.name), default=None)


def read_attempt(pods: Iterable[Json]) -> Attempt:
    """Read the pods of one Job, of whatever age and in whatever state."""
    by_age = sorted(
        pods,
        key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]),
        reverse=True,
    )
    waiting = _waiting(by_age[0]) if by_age else ""
    is_running = bool(by_age) and _is_running(by_age[0])
    for pod in by_age:
        name = pod["metadata"]["name"]
        ends = list(_ends(pod))
        for end in ends:
            try:
                report = Report.from_json(end.get("message", ""))
            except ValueError:
                continue
            return Attempt(
                name,
                end.get("finishedAt") or "",
                report,
                is_out_of_time=(pod.get("status") or {}).get("reason") == "DeadlineExceeded",
                waiting=waiting,
                is_running=is_running,
            )
        if ends or (pod.get("status") or {}).get("phase") == "Failed":
            words, hint = _how_it_ended(pod, ends)
            ended_at = ends[0].get("finishedAt") or "" if ends else ""
            return Attempt(
                name, ended_at, None, words, hint, waiting=waiting, is_running=is_running
            )
    return Attempt(waiting=waiting, is_running=is_running)


def _condition(status: Json, type_: str) -> Json | None:
    conditions: Iterable[Json] = status.get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == type_), None)


def _images(spec: Json) -> frozenset[str]:
    pod: Json = (spec.get("template") or {}).get("spec") or {}
    return frozenset(container.get("image", "") for container in pod.get("containers") or ())


def _containers(pod: Json) -> Iterator[Json]:
    """Yield the container statuses; the main ones first, the init ones after them."""
    status = pod.get("status") or {}
    yield from status.get("containerStatuses") or ()
    yield from status.get("initContainerStatuses") or ()


def _ends(pod: Json) -> Iterator[dict[str, Any]]:
    """Yield how the pod's containers ended; those that failed first."""
    ends = []
    for container in _containers(pod):
        state = (container.get("state") or {}).get("terminated")
        # With restartPolicy OnFailure the container is already waiting for its next run.
        last = state or (container.get("lastState") or {}).get("terminated")
        if last:
            ends.append({"container": container.get("name", ""), **last})
    yield from sorted(ends, key=lambda end: end.get("exitCode") == 0)


_OUT_OF_MEMORY = "Give the migration more memory: raise the memory limit of the Job's container."
_NO_REPORT = (
    "Read the pod's log. The report is written by `tidegate migrate up` to /dev/termination-log: "
    "see that the Job runs that command and does not set terminationMessagePath."
)


def _how_it_ended(pod: Json, ends: list[dict[str, Any]]) -> tuple[str, str]:
    status = pod.get("status") or {}
    words = []
    if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost …
        words.append(_joined(status["reason"], status.get("message", "")))
    # What the kubelet writes of a container that never ran: it found none.
    ran = [end for end in ends if end.get("reason") != "ContainerStatusUnknown"]
    for end in ran[:1] if words else ends[:1]:
        how = f"container {end['container']} ended with exit code {end.get('exitCode')}"
        if end.get("signal"):
            how += f", signal {end['signal']}"
        how += f" ({end.get('reason') or 'no reason given'})"
        words.append(_joined(how, end.get("message")))
    if not words:
        words.append("the pod failed and says no more")
    if not ran:
        hint = f"See why with `kubectl describe pod {pod['metadata']['name']}`."
    elif any(end.get("reason") == "OOMKilled" for end in ends):
        hint = _OUT_OF_MEMORY
    else:
        hint = _NO_REPORT
    return "; ".join(words), hint


def _is_running(pod: Json) -> bool:
    return any("running" in (container.get("state") or {}) for container in _containers(pod))


def _waiting(pod: Json) -> str:
    status = pod.get("status") or {}
    for container in _containers(pod):
        state = (container.get("state") or {}).get("waiting")
        if state and state.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _joined(f"{container.get('name', '')}: {state['reason']}", state.get("message"))
    scheduled = _condition(status, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return _joined(scheduled.get("reason", "not scheduled"), scheduled.get("message"))
    return ""


def _joined(what: str, why: str | None, limit: int = 600) -> str:
    why = " ".join((why or "").split())
    return f"{what}: {why[:limit]}" if why else what
