"""Which cluster is meant."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.cluster import engine
from tests.cluster.errors import ClusterError
from tests.cluster.existing import Existing
from tests.cluster.interface import choose, ports
from tests.cluster.node import Node
from tests.cluster.progress import Progress


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_kubeconfig_points_at_a_third_cluster() -> None:
    cluster = choose(environ={"KUBECONFIG": "/somewhere/config"})
    assert isinstance(cluster, Existing)


def test_our_own_kubeconfig_in_the_shell_still_means_our_own_cluster() -> None:
    ours = choose("tidegate", {"TIDEGATE_CLUSTER": "node"})
    again = choose("tidegate", {"TIDEGATE_CLUSTER": "", "KUBECONFIG": str(ours.kubeconfig)})
    assert not isinstance(again, Existing)


def test_two_clusters_have_ports_of_their_own_and_others_may_be_chosen() -> None:
    assert ports("tidegate", {}) == (6443, 8000)
    assert ports("tidegate-e2e", {}) == (16443, 18000)
    assert ports("tidegate", {"TIDEGATE_SERVICE_PORT": "8001"}) == (6443, 8001)
    with pytest.raises(ClusterError, match="TIDEGATE_API_PORT=http is not a port"):
        ports("tidegate", {"TIDEGATE_API_PORT": "http"})


def test_a_wrong_choice_is_refused() -> None:
    with pytest.raises(ClusterError, match="none of existing, kind, node"):
        choose(environ={"TIDEGATE_CLUSTER": "minikube"})


def test_a_name_that_no_node_can_have_is_refused() -> None:
    with pytest.raises(ClusterError, match="cannot name a cluster"):
        Node("My_Cluster", (0, 0), Progress(io.StringIO()))


def test_a_client_without_an_engine_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    engine.container_engine.cache_clear()
    try:
        assert engine.container_engine() == ""
        client.write_text("#!/bin/sh\necho 'Server Version: 29'\n")
        engine.container_engine.cache_clear()
        assert engine.container_engine() == "docker"
    finally:
        engine.container_engine.cache_clear()


def test_an_exported_kubeconfig_is_not_touched_before_a_person_says_how_images_get_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("{}")
    monkeypatch.setattr("tests.cluster.existing.kubectl", lambda *arguments: "https://prod")
    with pytest.raises(ClusterError, match=r"points at https://prod.*LOAD_IMAGE="):
        choose(environ={"KUBECONFIG": str(config)}).up()
