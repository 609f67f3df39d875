"""What the operator's Role grants is what the operator does: the API server keeps the account."""

from pathlib import Path

import pytest

from tests.operator.world import (
    BROKEN,
    DONE,
    Json,
    Namespace,
    Right,
    World,
    eventually,
    one,
    operator,
    render,
    rights,
)


def asked(event: Json) -> Right:
    about = event["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    return event["verb"], about.get("apiGroup", ""), resource


def live_through_everything(shop: Namespace) -> None:
    """One gate's whole life: every event that there is, and every read that one leads to."""
    shop.gate()
    shop.becomes("NoMigrationJob")
    shop.ends(shop.job(), DONE)
    shop.deployment()
    shop.rolled_out()
    shop.becomes("Ready")
    shop.delete_job()
    shop.ends(shop.job(image="orders:2"), BROKEN)
    shop.becomes("MigrationError")
    shop.world.delete(shop.gate_path())


@pytest.mark.parametrize("mode", ["namespaced", "cluster-wide"])
def test_every_verb_of_the_role_is_used_and_no_other_is_asked_for(
    mode: str, world: World, tmp_path: Path
) -> None:
    home, shop = world.namespace(), world.namespace()
    namespaces = [shop.name] if mode == "namespaced" else []
    values = [f"watchNamespaces={{{name}}}" for name in namespaces]
    kubeconfig = world.install(tmp_path, *values, namespace=home.name)
    with operator(kubeconfig, *namespaces):
        live_through_everything(shop)

    account = f"system:serviceaccount:{home.name}:op-tidegate-operator"
    requests = world.requests_of(account)
    refused = [event for event in requests if event["responseStatus"]["code"] in (401, 403)]
    assert not refused
    role = one(
        render(*values, namespace=home.name),
        "Role" if mode == "namespaced" else "ClusterRole",
    )
    assert {asked(event) for event in requests} == rights(role)
    if mode == "namespaced":
        assert {event["objectRef"].get("namespace") for event in requests} == {shop.name}


def test_a_missing_right_is_named_with_its_remedy_and_picked_up_when_granted(
    world: World, tmp_path: Path
) -> None:
    home, shop = world.namespace(), world.namespace()
    values = f"watchNamespaces={{{shop.name}}}"
    kubeconfig = world.install(tmp_path, values, namespace=home.name)
    role = one(render(values, namespace=home.name), "Role")
    less = [rule for rule in role["rules"] if "schemagates/status" not in rule["resources"]]
    world.apply([role | {"rules": less}])
    with operator(kubeconfig, shop.name) as running:
        shop.gate()
        eventually("the refusal told", lambda: "HTTP 403" in running.log.read_text())
        said = running.log.read_text()
        assert 'cannot patch resource \\"schemagates/status\\"' in said
        assert "helm upgrade" in said
        assert shop.status() == {}
        world.apply([role])
        shop.becomes("NoMigrationJob")


def test_the_role_reads_no_secrets_and_writes_nothing_but_a_status() -> None:
    granted = rights(one(render(), "ClusterRole"))
    writes = {right for right in granted if right[0] not in ("get", "list", "watch")}
    assert writes == {("patch", "tidegate.dev", "schemagates/status")}
    assert not [right for right in granted if "secrets" in right[2] or "*" in "".join(right)]


def test_namespaced_mode_asks_for_nothing_cluster_wide() -> None:
    documents = render("watchNamespaces={shop,billing}")
    assert not [document for document in documents if document["kind"].startswith("ClusterRole")]
    roles = [document for document in documents if document["kind"] == "Role"]
    bindings = [document for document in documents if document["kind"] == "RoleBinding"]
    assert [role["metadata"]["namespace"] for role in roles] == ["shop", "billing"]
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["shop", "billing"]
