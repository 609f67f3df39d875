"""The operator, with the chart's own ServiceAccount, against a real API server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operator.world import (
    BROKEN,
    DONE,
    Namespace,
    Operator,
    World,
    eventually,
    operator,
)


@pytest.fixture(scope="module")
def kubeconfig(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.install(tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def running(kubeconfig: Path) -> Iterator[Operator]:
    """One operator for every namespace, shared by the tests that do not stop it."""
    with operator(kubeconfig) as started:
        yield started


@pytest.fixture
def shop(world: World) -> Namespace:
    return world.namespace()


def test_a_release_is_told_from_its_first_step_to_its_last(
    shop: Namespace, running: Operator
) -> None:
    shop.gate()
    assert shop.becomes("NoMigrationJob")["status"] == "Unknown"
    assert shop.becomes("DeploymentNotFound", type_="RolledOut")["status"] == "False"
    job = shop.job()
    shop.becomes("Migrating")
    shop.ends(job, DONE)
    shop.becomes("Migrated", type_="Migrated")
    shop.deployment()
    shop.becomes("RollingOut")
    shop.rolled_out(old=1)
    eventually(
        "the old pod counted",
        lambda: "1 old" in shop.condition("RolledOut")["message"],
    )
    shop.rolled_out()
    assert shop.becomes("Ready")["status"] == "True"
    status = shop.status()
    assert (status["verdict"], status["image"], status["heads"]) == (
        "current",
        "orders:1",
        ["0002"],
    )
    assert status["migration"]["job"] == "orders-migrate"
    assert status["migration"]["outcome"] == "done"
    assert status["observedGeneration"] == 1


def test_a_job_and_a_deployment_are_heard_of_at_once(shop: Namespace, running: Operator) -> None:
    """By their own events: well before the next look that a running migration leads to."""
    job = shop.job()
    shop.deployment()
    shop.gate()
    shop.becomes("Migrating")
    time.sleep(0.5)  # the gate's own events have passed
    shop.ends(job, DONE)
    shop.becomes("RollingOut", seconds=5)
    time.sleep(0.5)
    shop.rolled_out()
    shop.becomes("Ready", seconds=5)


def test_a_failed_migration_names_the_reason_while_the_old_pods_serve_on(
    shop: Namespace, running: Operator
) -> None:
    shop.release()
    before = shop.becomes("Ready", type_="Ready")
    shop.delete_job()
    shop.ends(shop.job(image="orders:2"), BROKEN)
    ready = shop.becomes("MigrationError")
    assert ready["status"] == "False"
    for part in (BROKEN.message, BROKEN.hint, "0003", "orders:2", "Nothing was rolled"):
        assert part in ready["message"]
    assert shop.condition("RolledOut")["status"] == "True"
    status = shop.status()
    assert (status["verdict"], status["migration"]["failure"]) == ("behind", "migration-error")
    assert before["status"] == "True"


@pytest.mark.parametrize(
    ("terminated", "words"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "memory"),
        ({"exitCode": 137, "reason": "Error", "signal": 9}, "signal 9"),
        ({"exitCode": 128, "reason": "StartError", "message": "exec: not found"}, "not found"),
        ({"exitCode": 1, "message": '{"version": 7}'}, "exit code 1"),
    ],
    ids=["out-of-memory", "sigkill", "no-such-command", "not-a-report"],
)
def test_a_job_without_a_report_says_how_its_pod_ended(
    shop: Namespace, running: Operator, terminated: dict[str, object], words: str
) -> None:
    shop.gate()
    shop.ends(shop.job(), None, **terminated)
    migrated = shop.becomes("NoReport", type_="Migrated")
    assert migrated["status"] == "False"
    assert words in migrated["message"]
    assert shop.status()["verdict"] == "unknown"


def test_an_image_that_cannot_be_pulled_is_told_while_the_job_waits_and_after(
    shop: Namespace, running: Operator
) -> None:
    job = shop.job()
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image orders:1"}
    pod = shop.pod(job, {"waiting": waiting}, "Pending")
    shop.gate()
    assert "ImagePullBackOff" in shop.becomes("Migrating")["message"]
    # At its deadline the Job controller deletes the pod, and then says that the Job failed.
    shop.world.delete(f"/api/v1/namespaces/{shop.name}/pods/{pod['metadata']['name']}")
    shop.job_ends(job, "Failed", "DeadlineExceeded", "Job was active longer than its deadline")
    message = shop.becomes("NoReport")["message"]
    assert "DeadlineExceeded" in message
    assert "ImagePullBackOff" in message


def test_two_gates_of_one_namespace_do_not_mix(shop: Namespace, running: Operator) -> None:
    shop.release("orders")
    shop.release("billing")
    shop.becomes("Ready", name="orders")
    shop.becomes("Ready", name="billing")
    shop.delete_job("billing-migrate")
    shop.ends(shop.job("billing", image="billing:2"), BROKEN)
    shop.becomes("MigrationError", name="billing")
    assert shop.condition("Ready", "orders")["reason"] == "Ready"


def test_the_newest_job_decides_and_a_deleted_one_is_remembered(
    shop: Namespace, running: Operator
) -> None:
    shop.release()
    shop.becomes("Ready")
    shop.delete_job()
    shop.world.merge(shop.gate_path(), {"spec": {"deploymentName": "elsewhere"}})
    shop.becomes("DeploymentNotFound")
    status = shop.status()
    assert shop.condition("Migrated")["status"] == "True"
    assert status["migration"]["outcome"] == "done"
    assert status["observedGeneration"] == 2
    assert {entry["observedGeneration"] for entry in status["conditions"]} == {2}


def test_a_burst_of_events_ends_in_the_newest_status(shop: Namespace, running: Operator) -> None:
    shop.release()
    for old in (5, 4, 3, 2, 1, 0):
        shop.rolled_out(old=old)
    shop.becomes("Ready")
    assert "old ones" not in shop.condition("RolledOut")["message"]


def test_what_the_operator_watches_carries_no_trace_of_it(
    world: World, shop: Namespace, running: Operator
) -> None:
    shop.release()
    shop.becomes("Ready")
    apps, batch = f"/apis/apps/v1/namespaces/{shop.name}", f"/apis/batch/v1/namespaces/{shop.name}"
    for path in (
        f"{apps}/deployments/orders",
        f"{batch}/jobs/orders-migrate",
        shop.gate_path(),
    ):
        meta = (world.get(path) or {})["metadata"]
        assert "finalizers" not in meta
        assert not [key for key in meta.get("annotations", {}) if "kopf" in key]
        writers = [(field["manager"], field.get("subresource")) for field in meta["managedFields"]]
        if "schemagates" in path:
            assert [writer for writer in writers if writer[1] != "status"] == writers[:1]
        else:
            assert not [writer for writer in writers if "tidegate" in writer[0]]
    world.delete(shop.gate_path())
    eventually("the gate gone", lambda: world.get(shop.gate_path()) is None)


def test_a_gate_that_is_made_anew_starts_anew(
    world: World, shop: Namespace, running: Operator
) -> None:
    shop.release()
    shop.becomes("Ready")
    shop.delete_job()
    world.delete(shop.gate_path())
    shop.gate()
    shop.becomes("NoMigrationJob")
