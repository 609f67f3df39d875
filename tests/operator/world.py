"""The cluster around the operator: a real API server, and this test in the place of everyone else.

No controller runs there and no kubelet. What they would write, :class:`Namespace` writes through
the API, so that everything the operator reads has been through the real validation.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from tests.cluster.controlplane import ControlPlane, Settings, free_port
from tests.cluster.toolchain import binary
from tidegate.schema import AppliedRevision, Failure, Outcome, Phase, Report, Verdict

CHART = Path(__file__).parents[2] / "chart" / "operator"
GATES = "/apis/tidegate.dev/v1alpha1"

T = TypeVar("T")
Json = dict[str, Any]

Right = tuple[str, str, str]
"""A verb, an API group, and a resource with its subresource."""

DONE = Report(
    Outcome.DONE,
    Verdict.CURRENT,
    image="orders:1",
    heads=("0002",),
    applied=(AppliedRevision("0002", Phase.EXPAND, 0.1),),
)
BROKEN = Report(
    Outcome.FAILED,
    Verdict.BEHIND,
    image="orders:2",
    heads=("0002",),
    pending={"0003": Phase.EXPAND},
    failure=Failure.MIGRATION_ERROR,
    revision="0003",
    message='column "price" of relation "orders" already exists',
    hint="Drop the column, or stamp the revision; then run `helm upgrade` again.",
)

# The image's uid has no name, and who asks for it gets an error.
AS_IN_ITS_IMAGE = """
import getpass
def nobody():
    raise KeyError("getpwuid(): uid not found: 10001")
getpass.getuser = nobody
from tidegate_operator.main import main
main()
"""

AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts]
  - level: None
"""


def eventually(what: str, look: Callable[[], T], seconds: float = 20) -> T:
    """Look again and again until there is something true to see."""
    deadline = time.monotonic() + seconds
    seen: T
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last seen: {seen!r}"
        time.sleep(0.05)
    return seen


def render(*values: str, namespace: str = "tidegate", release: str = "op") -> list[Json]:
    """Render the operator's chart; each value is an argument of ``--set``."""
    return deepcopy(_rendered(values, namespace, release))


@cache
def _rendered(values: tuple[str, ...], namespace: str, release: str) -> list[Json]:
    values = ("image.repository=example.test/operator", *values)
    sets = [argument for value in values for argument in ("--set", value)]
    command = [str(binary("helm")), "template", release, str(CHART), "--namespace", namespace]
    ended = subprocess.run([*command, *sets], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ValueError(ended.stderr)
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


def one(documents: list[Json], kind: str) -> Json:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def rights(role: Json) -> set[Right]:
    """All that a role grants."""
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


class World:
    """The API server, seen by its administrator."""

    def __init__(self, plane: ControlPlane, audit_log: Path) -> None:
        self.plane = plane
        self._audit_log = audit_log
        trust = ssl.create_default_context(cafile=str(plane.keys.authority.certificate))
        trust.load_cert_chain(plane.keys.admin.certificate, plane.keys.admin.key)
        self.http = httpx.Client(base_url=plane.url, verify=trust, timeout=10)
        self._count = 0

    def get(self, path: str) -> Json | None:
        answer = self.http.get(path)
        if answer.status_code in (404, 429):  # 429: the storage of a new CRD is being made
            return None
        return _checked(answer)

    def post(self, path: str, body: Json) -> Json:
        return _checked(self.http.post(path, json=body))

    def merge(self, path: str, body: Json) -> Json:
        headers = {"Content-Type": "application/merge-patch+json"}
        return _checked(self.http.patch(path, json=body, headers=headers))

    def delete(self, path: str) -> None:
        body = {"propagationPolicy": "Background"}
        _checked(self.http.request("DELETE", path, json=body))

    def apply(self, documents: list[Json]) -> None:
        """Server-side apply, as `helm install` does."""
        for document in documents:
            meta = document["metadata"]
            plural = f"{document['kind'].lower()}s"
            version = document["apiVersion"]
            root = "/api/v1" if version == "v1" else f"/apis/{version}"
            inside = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
            path = f"{root}{inside}/{plural}/{meta['name']}"
            answer = self.http.patch(
                path,
                params={"fieldManager": "helm", "force": "true", "fieldValidation": "Strict"},
                content=json.dumps(document),
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
            _checked(answer)

    def namespace(self, name: str = "") -> Namespace:
        self._count += 1
        name = name or f"shop-{os.getpid()}-{self._count}"
        self.post("/api/v1/namespaces", {"metadata": {"name": name}})
        return Namespace(self, name)

    def install(self, directory: Path, *values: str, namespace: str = "tidegate") -> Path:
        """Install the chart, and give a kubeconfig with its ServiceAccount's token."""
        documents = render(*values, namespace=namespace)
        self.apply([document for document in documents if document["kind"] != "Deployment"])
        self.wait_for_crd()
        account = one(documents, "ServiceAccount")["metadata"]["name"]
        token = self.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        )["status"]["token"]
        return self.kubeconfig(directory, token)

    def wait_for_crd(self) -> None:
        eventually("the CRD served", lambda: self.get(f"{GATES}/namespaces/x/schemagates"))

    def kubeconfig(self, directory: Path, token: str, server: str = "") -> Path:
        cluster = {
            "server": server or self.plane.url,
            "certificate-authority": str(self.plane.keys.authority.certificate),
        }
        file = directory / "operator.kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "current-context": "it",
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "clusters": [{"name": "it", "cluster": cluster}],
                    "users": [{"name": "it", "user": {"token": token}}],
                }
            )
        )
        return file

    def requests_of(self, user: str) -> list[Json]:
        """What a user asked of which objects, from the API server's own audit log."""
        lines = self._audit_log.read_text().splitlines()
        events: list[Json] = [json.loads(line) for line in lines]
        return [
            event for event in events if event["user"]["username"] == user and "objectRef" in event
        ]


class Namespace:
    """One namespace, with the test as its Helm, its controllers and its kubelet."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    def gate(self, name: str = "orders", deployment: str = "") -> Json:
        return self.world.post(
            f"{GATES}/namespaces/{self.name}/schemagates",
            {
                "apiVersion": "tidegate.dev/v1alpha1",
                "kind": "SchemaGate",
                "metadata": {"name": name},
                "spec": {"deploymentName": deployment or name},
            },
        )

    def gate_path(self, name: str = "orders") -> str:
        return f"{GATES}/namespaces/{self.name}/schemagates/{name}"

    def status(self, name: str = "orders") -> Json:
        found = self.world.get(self.gate_path(name))
        status: Json = (found or {}).get("status") or {}
        return status

    def condition(self, type_: str, name: str = "orders") -> Json:
        conditions: list[Json] = self.status(name).get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == type_), {})

    def becomes(
        self, reason: str, *, type_: str = "Ready", name: str = "orders", seconds: float = 20
    ) -> Json:
        """Wait for a condition's reason; Ready's, if no other type is named."""
        return eventually(
            f"{type_} of {self.name}/{name} with reason {reason}",
            lambda: is_ if (is_ := self.condition(type_, name)).get("reason") == reason else {},
            seconds,
        )

    def deployment(self, name: str = "orders", image: str = "orders:1", replicas: int = 2) -> Json:
        labels = {"app.kubernetes.io/name": name}
        return self.world.post(
            f"/apis/apps/v1/namespaces/{self.name}/deployments",
            {
                "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "service", "image": image}]},
                    },
                },
            },
        )

    def rolled_out(self, name: str = "orders", old: int = 0) -> None:
        """Write what the Deployment controller writes in the end, or with some old pods left."""
        path = f"/apis/apps/v1/namespaces/{self.name}/deployments/{name}"
        found = self.world.get(path)
        assert found
        wanted = found["spec"]["replicas"]
        reason = "ReplicaSetUpdated" if old else "NewReplicaSetAvailable"
        progressing = {"type": "Progressing", "status": "True", "reason": reason, "message": "…"}
        progressing["lastTransitionTime"] = progressing["lastUpdateTime"] = _now()
        self.world.merge(
            f"{path}/status",
            {
                "status": {
                    "observedGeneration": found["metadata"]["generation"],
                    "replicas": wanted + old,
                    "updatedReplicas": wanted,
                    "readyReplicas": wanted,
                    "availableReplicas": wanted,
                    "conditions": [progressing],
                }
            },
        )

    def job(self, gate: str = "orders", name: str = "", image: str = "orders:1") -> Json:
        labels = {"tidegate.dev/schemagate": gate, "app.kubernetes.io/component": "migration"}
        container = {"name": "migrate", "image": image, "args": ["tidegate", "migrate", "up"]}
        return self.world.post(
            f"/apis/batch/v1/namespaces/{self.name}/jobs",
            {
                "metadata": {"name": name or f"{gate}-migrate", "labels": labels},
                "spec": {
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container], "restartPolicy": "Never"},
                    }
                },
            },
        )

    def delete_job(self, name: str = "orders-migrate") -> None:
        self.world.delete(f"/apis/batch/v1/namespaces/{self.name}/jobs/{name}")

    def ends(self, job: Json, report: Report | None = None, **terminated: object) -> None:
        """End the Job's pod with a report, or in another way; then tell the Job."""
        failed = report is None or report.failure is not None
        end: Json = {"exitCode": int(failed), "reason": "Error" if failed else "Completed"}
        end |= {"startedAt": _now(), "finishedAt": _now(), **terminated}
        if report is not None:
            end["message"] = report.to_json(Report.LIMIT)
        self.pod(job, {"terminated": end}, "Failed" if failed else "Succeeded")
        self.job_ends(job, "Failed" if failed else "Complete")

    def release(self, name: str = "orders") -> None:
        """A first release of a service, migrated and rolled out."""
        self.ends(self.job(name), DONE)
        self.gate(name)
        self.deployment(name)
        self.rolled_out(name)

    def pod(self, job: Json, state: Json, phase: str) -> Json:
        """Make the Job's pod as the Job controller would, in a state as the kubelet would."""
        template = job["spec"]["template"]
        name = f"{job['metadata']['name']}-{time.monotonic_ns() % 100000:05}"
        pods = f"/api/v1/namespaces/{self.name}/pods"
        pod = {"metadata": {"name": name, **template["metadata"]}, "spec": template["spec"]}
        self.world.post(pods, pod)
        status = {
            "name": "migrate",
            "image": template["spec"]["containers"][0]["image"],
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        return self.world.merge(
            f"{pods}/{name}/status", {"status": {"phase": phase, "containerStatuses": [status]}}
        )

    def job_ends(self, job: Json, result: str, reason: str = "", message: str = "") -> None:
        reason = reason or (
            "CompletionsReached" if result == "Complete" else "BackoffLimitExceeded"
        )
        conditions = [
            {"type": type_, "status": "True", "reason": reason, "message": message}
            | {"lastTransitionTime": _now(), "lastProbeTime": _now()}
            for type_ in (
                ("SuccessCriteriaMet", "Complete")
                if result == "Complete"
                else ("FailureTarget", "Failed")
            )
        ]
        counts: Json = {"succeeded": 1, "completionTime": _now()}
        if result != "Complete":
            counts = {"failed": 1}
        self.world.merge(
            f"/apis/batch/v1/namespaces/{self.name}/jobs/{job['metadata']['name']}/status",
            {"status": {"startTime": _now(), "conditions": conditions, **counts}},
        )


class Operator:
    """A running ``tidegate-operator``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def health(self, which: str) -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/{which}").status_code
        except httpx.TransportError:
            return 0

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.health("ready") == 200


@contextmanager
def operator(kubeconfig: Path, *namespaces: str) -> Iterator[Operator]:
    """Run the operator as its image does, and stop it as the kubelet does."""
    port = free_port()
    log = kubeconfig.parent / f"operator-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", AS_IN_ITS_IMAGE],
            env={
                "PATH": os.environ["PATH"],
                "KUBECONFIG": str(kubeconfig),
                "WATCH_NAMESPACES": ",".join(namespaces),
                "TIDEGATE_ADMIN_PORT": str(port),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        running = Operator(process, port, log)
        eventually("the operator ready", running.is_ready, 20)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@contextmanager
def world(directory: Path) -> Iterator[World]:
    policy, log = directory / "audit-policy.yaml", directory / "audit.log"
    policy.write_text(AUDIT_POLICY)
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    settings = Settings(arguments=(*Settings().arguments, *audit))
    with ControlPlane(directory, settings) as plane:
        made = World(plane, log)
        try:
            made.post("/api/v1/namespaces", {"metadata": {"name": "tidegate"}})
            yield made
        finally:
            made.http.close()


def _checked(answer: httpx.Response) -> Json:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
    body: Json = answer.json()
    return body


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
