"""Releases on a real node: what `make up` promises, the next release, and one that fails."""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.cluster.images import REPOSITORY, archive_of
from tests.cluster.shopping import make_report
from tests.e2e.conftest import Stage
from tests.e2e.load import steady_clients
from tests.revisions import NEXT

pytestmark = pytest.mark.e2e
T = TypeVar("T")


def conditions(stage: Stage) -> dict[str, dict[str, Any]]:
    gate = stage.release.get("schemagate/orders")
    return {condition["type"]: condition for condition in gate["status"]["conditions"]}


def pods(stage: Stage) -> dict[str, dict[str, Any]]:
    selector = "--selector=app.kubernetes.io/instance=orders,app.kubernetes.io/component=service"
    return {pod["metadata"]["uid"]: pod for pod in stage.release.get("pods", selector)["items"]}


def rollout(stage: Stage) -> str:
    """The Deployment's revision: it changes exactly when its pods are replaced."""
    annotations = stage.release.get("deployment/orders")["metadata"]["annotations"]
    revision: str = annotations["deployment.kubernetes.io/revision"]
    return revision


def eventually(look: Callable[[], T | None], within: float, what: str) -> T:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(1)
    raise AssertionError(f"not within {within:g} s: {what}")


def when(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


def test_the_migration_is_done_before_the_first_pod_exists_and_an_order_is_served(
    stage: Stage,
) -> None:
    order = stage.release.place_order().order
    assert order["total_cents"] == 900
    job = stage.release.get("job/orders-migrate")
    first = min(when(pod["metadata"]["creationTimestamp"]) for pod in pods(stage).values())
    assert when(job["status"]["completionTime"]) <= first
    assert all(row["status"] == "True" for row in conditions(stage).values())
    gate = stage.release.get("schemagate/orders")
    assert all(
        row["observedGeneration"] == gate["metadata"]["generation"]
        for row in gate["status"]["conditions"]
    )
    assert gate["status"]["image"].endswith(stage.base)


def test_the_worker_does_what_is_ordered_from_the_service(stage: Stage) -> None:
    report = make_report(stage.release.cluster.service_url, stage.release.seed())
    assert report["status"] == "done"
    assert stage.release.get("deployment/orders-worker")["status"]["readyReplicas"] == 1


def test_the_metrics_api_answers_and_the_autoscaler_sees_a_percentage(stage: Stage) -> None:
    def percentage() -> re.Match[str] | None:
        return re.search(r"cpu: \d+%/80%", stage.release.kubectl("get", "hpa/orders"))

    eventually(percentage, 180, "the autoscaler shows a CPU percentage")

    def all_measured() -> bool:
        top = stage.release.kubectl("top", "pods", "--no-headers").split()
        return {pod["metadata"]["name"] for pod in pods(stage).values()} <= set(top)

    eventually(all_measured, 90, "`kubectl top pods` shows every pod of the service")


def test_pods_run_without_root_and_the_service_itself_is_pid_1(stage: Stage) -> None:
    program = (
        "import json, os, pathlib\n"
        "print(json.dumps({'uid': os.getuid(),"
        " 'pid 1': pathlib.Path('/proc/1/cmdline').read_text().split(chr(0))[1:-1],"
        " 'writable': os.access('/srv', os.W_OK) or os.access('/opt', os.W_OK)}))"
    )
    seen = json.loads(
        stage.release.kubectl("exec", "deployment/orders", "--", "python", "-c", program)
    )
    assert (seen["uid"], seen["writable"]) == (10001, False)
    # An exec-form command: the service gets SIGTERM, not a shell.
    assert seen["pid 1"] == ["/opt/venv/bin/tidegate", "serve", "orders.main:app"]


@pytest.mark.parametrize("name", ["orders", "operator"])
def test_an_image_holds_no_compiler_and_no_cache_of_pip(name: str, stage: Stage) -> None:
    with tarfile.open(archive_of(f"{REPOSITORY}/{name}:{stage.base}")) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest
        files: set[str] = set()
        for layer in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as tar:
                files |= {f"/{path.removeprefix('./')}" for path in tar.getnames()}
    assert "/opt/venv/bin/python" in files
    left_over = re.compile(r"/bin/(gcc|cc|g\+\+|make|uv)$|/\.cache/pip/|^/dist/|^/opt/(pip|build)/")
    assert not [path for path in files if left_over.search(path)]


def test_a_second_release_with_one_more_migration_rolls_without_a_failed_request(
    stage: Stage, tmp_path: Path
) -> None:
    before = pods(stage)
    tag = stage.image_with_revision(
        tmp_path / "next", NEXT, "ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text"
    )
    with steady_clients(stage.release.cluster.service_url) as answers:
        stage.release.service(tag)
        eventually(lambda: not before.keys() & pods(stage).keys(), 90, "the old pods are gone")
    assert not answers.failures, f"{len(answers.failures)} failed, {answers.good} did not"
    assert answers.good > 100
    gate = stage.release.get("schemagate/orders")["status"]
    assert (gate["heads"], gate["verdict"]) == ([NEXT], "current")
    assert gate["image"].endswith(tag)
    assert all(row["status"] == "True" for row in conditions(stage).values())
    stage.release.place_order()


def test_a_rollback_over_an_expand_migration_goes_on_and_says_so(
    stage: Stage, tmp_path: Path
) -> None:
    tag = stage.image_with_revision(
        tmp_path / "next", NEXT, "ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text"
    )
    stage.release.service(tag)
    rolled = stage.release.helm("rollback", "orders", "--namespace=shop", "--wait", "--timeout=5m")
    assert rolled.returncode == 0, rolled.stderr

    def rolled_back() -> bool:
        gate = stage.release.get("schemagate/orders")["status"]
        return bool(gate["image"].endswith(stage.base) and gate["verdict"] == "ahead-compatible")

    eventually(rolled_back, 60, "the gate says ahead-compatible for the old image")
    stage.release.place_order()


def test_a_rollback_over_a_contract_migration_is_refused_before_a_pod_changes(
    stage: Stage, tmp_path: Path
) -> None:
    tag = stage.image_with_revision(
        tmp_path / "next", NEXT, "ALTER TABLE orders ADD COLUMN note text", phase="contract"
    )
    consent = "migrations.args={tidegate,migrate,up,--phase,all,--nobody-runs-older}"
    stage.release.service(tag, "--set", consent)
    running = int(stage.release.helm_history("orders")[-1]["revision"])
    eventually(lambda: conditions(stage)["Ready"]["status"] == "True", 90, "the gate is Ready")
    before = rollout(stage)
    rolled = stage.release.helm("rollback", "orders", "--namespace=shop", "--wait", "--timeout=5m")
    assert rolled.returncode != 0
    assert f"contract revision {NEXT}" in rolled.stdout + rolled.stderr
    assert rollout(stage) == before
    stage.release.place_order()
    eventually(
        lambda: conditions(stage)["Ready"]["reason"] == "Incompatible", 60, "the gate says why"
    )
    # The documented way on: back to the revision that runs, and then the next release.
    back = stage.release.helm(
        "rollback", "orders", str(running), "--namespace=shop", "--wait", "--timeout=5m"
    )
    assert back.returncode == 0, back.stderr
    next_release = stage.release.try_service(tag)
    assert next_release.returncode == 0, next_release.stderr


def test_a_release_whose_migration_fails_leaves_the_old_pods_serving_and_says_why(
    stage: Stage, tmp_path: Path
) -> None:
    before = rollout(stage)
    tag = stage.image_with_revision(
        tmp_path / "broken", "broken1", "ALTER TABLE no_such_table ADD COLUMN note text"
    )
    with steady_clients(stage.release.cluster.service_url, clients=1) as answers:
        ended = stage.release.try_service(tag)
    assert ended.returncode != 0
    said = (ended.stdout + ended.stderr).replace('\\"', '"')  # Helm logs the Job's words quoted
    assert "revision broken1 failed" in said
    assert 'relation "no_such_table" does not exist' in said
    assert rollout(stage) == before
    assert not answers.failures
    stage.release.place_order()

    def failed() -> dict[str, Any] | None:
        seen = conditions(stage)
        return seen["Ready"] if seen["Ready"]["status"] == "False" else None

    ready = eventually(failed, 60, "the gate is not Ready")
    assert ready["reason"] == "MigrationError"
    assert 'relation "no_such_table" does not exist' in ready["message"]
    assert conditions(stage)["RolledOut"]["status"] == "True"
    migration = stage.release.get("schemagate/orders")["status"]["migration"]
    assert migration["revision"] == "broken1"
