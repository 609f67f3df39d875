"""The operator's chart, and the CRD as a real API server takes it."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.operator.golden import NAMES, expected
from tests.operator.world import CHART, Json, Namespace, World, one, render


def crd() -> Json:
    return one(render(), "CustomResourceDefinition")


@pytest.fixture
def shop(world: World) -> Namespace:
    world.apply([crd()])
    world.wait_for_crd()
    return world.namespace()


def test_the_api_server_takes_every_object_as_it_is(world: World) -> None:
    home = world.namespace()
    values = (f"watchNamespaces={{{home.name}}}", "log.level=debug", "podLabels.team=shop")
    world.apply(render(*values, namespace=home.name))


def test_the_pod_satisfies_the_restricted_pod_security_level(world: World) -> None:
    home = world.namespace()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    world.merge(f"/api/v1/namespaces/{home.name}", {"metadata": {"labels": labels}})
    template = one(render(namespace=home.name), "Deployment")["spec"]["template"]
    pod = {"metadata": {"name": "operator", **template["metadata"]}, "spec": template["spec"]}
    world.post(f"/api/v1/namespaces/{home.name}/pods", pod)


def test_there_is_one_operator_and_never_two() -> None:
    spec = one(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_image_is_the_charts_version_unless_told_otherwise() -> None:
    def image(*values: str) -> str:
        pod = one(render(*values), "Deployment")["spec"]["template"]["spec"]
        found: str = pod["containers"][0]["image"]
        return found

    digest = "sha256:" + "0" * 64
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert image() == f"example.test/operator:{version}"
    assert image("image.tag=dev") == "example.test/operator:dev"
    assert image(f"image.digest={digest}") == f"example.test/operator@{digest}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("image.repository=", "image.repository is empty"),
        ("watchNamespaces={shop*}", "watchNamespaces"),
        ("replicas=2", "replicas"),
        ("log.level=loud", "level"),
        ("serviceAccount.create=false", "set serviceAccount.name"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render(value)


def test_the_schema_and_the_values_know_the_same_options() -> None:
    def of_values(values: Json, path: str = "") -> Iterator[str]:
        for key, value in values.items():
            yield path + key
            if isinstance(value, dict) and key not in passed_on:
                yield from of_values(value, f"{path}{key}.")

    def of_schema(schema: Json, path: str = "") -> Iterator[str]:
        for key, value in schema.get("properties", {}).items():
            yield path + key
            yield from of_schema(value, f"{path}{key}.")

    passed_on = {"resources", "podSecurityContext", "securityContext"}  # Kubernetes' own words
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(of_schema(schema)) - {"global"} == set(of_values(values))


def test_every_field_of_the_crd_is_described() -> None:
    def undescribed(schema: Json, path: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            if "description" not in field and name != "metadata":
                yield f"{path}.{name}"
            yield from undescribed(field, f"{path}.{name}")
            yield from undescribed(field.get("items", {}), f"{path}.{name}[]")

    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert not list(undescribed(schema, "schemagate"))


def test_helm_leaves_the_crd_when_it_uninstalls() -> None:
    assert crd()["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    others = render("crd.install=false")
    assert not [document for document in others if document["kind"] == crd()["kind"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_api_server_keeps_all_of_every_golden_status(name: str, shop: Namespace) -> None:
    shop.gate()
    path = f"{shop.gate_path()}/status"
    status = expected(name)
    assert shop.world.merge(path, {"status": status})["status"] == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "fine"),
        ("migration", {"outcome": "maybe"}),
        ("migration", {"failure": "tuesday"}),
        ("conditions", [{"type": "Ready", "status": "Perhaps"}]),
    ],
)
def test_the_api_server_refuses_a_status_out_of_the_closed_lists(
    field: str, value: object, shop: Namespace
) -> None:
    shop.gate()
    with pytest.raises(AssertionError, match="Unsupported value"):
        shop.world.merge(f"{shop.gate_path()}/status", {"status": {field: value}})


def test_a_gate_whose_name_does_not_fit_a_label_is_refused(shop: Namespace) -> None:
    with pytest.raises(AssertionError, match="at most 63 characters"):
        shop.gate("x" * 64)


def test_kubectl_get_shows_where_a_release_stands(shop: Namespace) -> None:
    shop.gate()
    status = expected("failed-while-old-pods-serve")
    shop.world.merge(f"{shop.gate_path()}/status", {"status": status})
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = shop.world.http.get(shop.gate_path(), headers=accept).json()
    columns = {
        column["name"]: (cell, column["priority"])
        for column, cell in zip(table["columnDefinitions"], table["rows"][0]["cells"], strict=True)
    }
    age = columns.pop("Age")
    assert age[1] == 0
    message = columns.pop("Message")
    assert message == (status["conditions"][0]["message"], 1)
    assert columns == {
        "Name": ("orders", 0),
        "Ready": ("False", 0),
        "Reason": ("MigrationError", 0),
        "Verdict": ("behind", 0),
        "Heads": ('["0002"]', 0),
        "Image": ("orders:2", 0),
    }
