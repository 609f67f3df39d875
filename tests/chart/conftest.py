"""What the chart's tests share: a real API server with a namespace that enforces "restricted"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.api import Api
from tests.chart.render import NAMESPACE, OPERATOR, render_chart
from tests.cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Start an API server that knows SchemaGate; the release's namespace enforces "restricted"."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as plane:
        api = Api(plane.kubeconfig)
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        setup: list[dict[str, Any]] = [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": NAMESPACE, "labels": restricted},
            },
            *(
                document
                for document in render_chart(chart=OPERATOR)
                if document["kind"] == "CustomResourceDefinition"
            ),
        ]
        applied = api.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(setup))
        assert applied.returncode == 0, applied.stderr
        waited = api.kubectl("wait", "--for=condition=Established", "crd", "--all")
        assert waited.returncode == 0, waited.stderr
        yield api
