"""Reads and the one write, against a real API server."""

from collections.abc import AsyncIterator
from pathlib import Path

import kopf
import pytest

from tests.cluster.controlplane import free_port
from tests.operator.golden import expected
from tests.operator.world import DONE, Json, Namespace, World
from tidegate_operator.kube import ApiError, ConflictError, Kube
from tidegate_operator.models import Gate

STATUS: Json = expected("migrated-and-rolled-out")


@pytest.fixture
def shop(world: World) -> Namespace:
    return world.namespace()


@pytest.fixture
def kubeconfig(
    world: World, shop: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    made = world.install(tmp_path, f"watchNamespaces={{{shop.name}}}", namespace=shop.name)
    monkeypatch.setenv("KUBECONFIG", str(made))
    return made


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    made = Kube(kopf.OperatorSettings())
    yield made
    await made.close()


async def read(kube: Kube, shop: Namespace) -> Gate:
    gate = await kube.gate(shop.name, "orders")
    assert gate
    return gate


async def test_what_does_not_exist_is_none(kube: Kube, shop: Namespace) -> None:
    assert await kube.serves_gates()
    assert await kube.gate(shop.name, "orders") is None
    assert await kube.deployment(shop.name, "orders") is None
    assert await kube.newest_job(Gate(shop.name, "orders", "orders")) is None


async def test_what_was_released_is_read_back(kube: Kube, shop: Namespace) -> None:
    shop.release()
    gate = await read(kube, shop)
    job = await kube.newest_job(gate)
    assert job
    assert (job.name, job.result, *job.images) == ("orders-migrate", "Complete", "orders:1")
    assert (await kube.attempt(shop.name, job)).report == DONE
    deployment = await kube.deployment(shop.name, gate.deployment_name)
    assert deployment
    assert (deployment.replicas, deployment.updated, deployment.progressing) == (
        2,
        2,
        "NewReplicaSetAvailable",
    )


async def test_a_status_is_replaced_whole(kube: Kube, shop: Namespace) -> None:
    shop.gate()
    await kube.write_status(await read(kube, shop), STATUS)
    assert shop.status() == STATUS
    less = {key: value for key, value in STATUS.items() if key not in ("heads", "image")}
    await kube.write_status(await read(kube, shop), less)
    assert shop.status() == less


async def test_a_write_from_an_older_look_is_refused(kube: Kube, shop: Namespace) -> None:
    shop.gate()
    older = await read(kube, shop)
    shop.world.merge(shop.gate_path(), {"spec": {"deploymentName": "elsewhere"}})
    with pytest.raises(ConflictError):
        await kube.write_status(older, STATUS)
    assert shop.status() == {}


async def test_a_gate_that_is_gone_or_made_anew_is_not_written(kube: Kube, shop: Namespace) -> None:
    shop.gate()
    older = await read(kube, shop)
    shop.world.delete(shop.gate_path())
    await kube.write_status(older, STATUS)
    shop.gate()
    with pytest.raises(ConflictError):
        await kube.write_status(older, STATUS)
    assert shop.status() == {}


async def test_a_token_that_ran_out_is_read_anew(
    kube: Kube, world: World, shop: Namespace, kubeconfig: Path
) -> None:
    world.kubeconfig(kubeconfig.parent, "expired")
    with pytest.raises(ApiError, match="401"):
        await kube.gate(shop.name, "orders")
    world.install(kubeconfig.parent, f"watchNamespaces={{{shop.name}}}", namespace=shop.name)
    assert await kube.gate(shop.name, "orders") is None


async def test_a_server_that_is_away_is_named(world: World, kube: Kube, kubeconfig: Path) -> None:
    away = f"https://127.0.0.1:{free_port()}"
    world.kubeconfig(kubeconfig.parent, "any", away)
    with pytest.raises(ApiError, match="does not answer") as error:
        await kube.serves_gates()
    assert away in str(error.value)


async def test_a_status_that_the_crd_refuses_is_told_with_the_servers_words(
    kube: Kube, shop: Namespace
) -> None:
    shop.gate()
    gate = await read(kube, shop)
    with pytest.raises(ApiError, match=r"422.*Unsupported value"):
        await kube.write_status(gate, {"verdict": "fine"})
