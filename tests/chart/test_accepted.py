"""Kubernetes takes what both charts render: by its schemas, and by a real API server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.chart.api import Api
from tests.chart.render import (
    LEAST,
    OPERATOR,
    SERVICE,
    Document,
    lint_chart,
    merge,
    nest,
    render_chart,
)
from tests.chart.values import LEAVES

# Every value that the schema has an example for, set at once. What only switches things off stays.
EVERYTHING: dict[str, Any] = {"service": {"type": "NodePort"}}
for path, node in LEAVES.items():
    if node["examples"] not in ([False], ["none"]):
        EVERYTHING = merge(EVERYTHING, nest(path, node["examples"][0]))

RELEASES: dict[str, list[Document]] = {}


def release(name: str) -> list[Document]:
    """Render one of the releases that Kubernetes is asked about."""
    if name not in RELEASES:
        RELEASES[name] = {
            "service": lambda: render_chart(),
            "service with every value set": lambda: render_chart(EVERYTHING),
            "service without extras": lambda: render_chart(
                {
                    "autoscaling": {"enabled": False},
                    "migrations": {"strategy": "none"},
                    "podDisruptionBudget": {"enabled": False},
                    "schemaGate": {"enabled": False},
                    "serviceAccount": {"create": False},
                }
            ),
            "operator": lambda: render_chart(chart=OPERATOR, release="tidegate-operator"),
        }[name]()
    return RELEASES[name]


every_release = pytest.mark.parametrize(
    "name", ["service", "service with every value set", "service without extras", "operator"]
)


def bare_pods(documents: list[Document]) -> list[Document]:
    """Turn every pod template into the pod that its controller would make."""
    pods = []
    for document in documents:
        template = document.get("spec", {}).get("template")
        if document["kind"] == "Pod":
            pods.append(document)
        elif isinstance(template, dict):
            metadata = {"name": f"{document['metadata']['name']}-pod", **template["metadata"]}
            pods.append(
                {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            )
    return pods


def oldest_kubernetes(chart: str) -> str:
    """Read the oldest version that a chart says it runs on."""
    metadata = yaml.safe_load(
        (({"operator": OPERATOR}.get(chart, SERVICE)) / "Chart.yaml").read_text()
    )
    found = re.fullmatch(r">=\s*(\d+\.\d+)\.\d+-0", metadata["kubeVersion"])
    assert found, "kubeVersion needs the form >=1.31.0-0, or vendors' versions are refused"
    return found[1]


@pytest.mark.parametrize("chart", [SERVICE, OPERATOR], ids=["service", "operator"])
def test_helm_lint_finds_nothing_with_the_least_values_and_with_none(chart: Path) -> None:
    for values in (LEAST[chart], {}):
        assert "0 chart(s) failed" in lint_chart(chart, values)


@every_release
@pytest.mark.parametrize("age", ["oldest", "latest"])
def test_every_document_satisfies_the_schemas_of_kubernetes(name: str, age: str) -> None:
    versions = {
        "oldest": oldest_kubernetes(name),
        "latest": kubernetes_validate.latest_version(),
    }
    documents = [
        each for each in release(name) if not each["apiVersion"].startswith("tidegate.dev")
    ]
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, versions[age], strict=True)


@every_release
def test_the_api_server_takes_every_document(api: Api, name: str) -> None:
    documents = release(name)
    answer = api.dry_run(documents)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""  # no warning either
    assert len(answer.stdout.splitlines()) == len(documents)


@every_release
def test_admission_lets_every_pod_into_a_restricted_namespace(api: Api, name: str) -> None:
    pods = bare_pods(release(name))
    assert pods
    answer = api.dry_run(pods)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == len(pods)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"securityContext": {"allowPrivilegeEscalation": True}}, "allowPrivilegeEscalation"),
        ({"securityContext": {"capabilities": {"drop": []}}}, "unrestricted capabilities"),
        ({"podSecurityContext": {"seccompProfile": None}}, "seccompProfile"),
        ({"podSecurityContext": {"runAsNonRoot": False}}, "runAsNonRoot"),
    ],
)
def test_admission_needs_each_of_the_security_settings(
    api: Api, values: dict[str, Any], complaint: str
) -> None:
    pods = bare_pods(render_chart(values))
    answer = api.dry_run(pods)
    assert answer.returncode != 0
    refused = [line for line in answer.stderr.splitlines() if "violates PodSecurity" in line]
    assert len(refused) == len(pods) == 3
    assert all(complaint in line for line in refused)


def test_the_api_server_refuses_a_name_that_stands_twice_in_the_environment(api: Api) -> None:
    """This is what Helm 4 would run into; the chart refuses such values before."""
    (deployment,) = render_chart(show_only=["templates/deployment.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["env"].append({"name": "TIDEGATE_PORT", "value": "1"})
    answer = api.dry_run([deployment])
    assert answer.returncode != 0
    assert "duplicate entries for key" in answer.stderr
