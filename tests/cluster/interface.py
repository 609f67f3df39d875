"""What every cluster can do, and which one is meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .errors import ClusterError
from .progress import Progress

# The NodePort that leads to `service_url`: charts under test ask for this one.
SERVICE_NODE_PORT = 30080
# API server and service on 127.0.0.1, by cluster name. Other names get free ports.
PORTS = {"tidegate": (6443, 8000), "tidegate-e2e": (16443, 18000)}


class Cluster(Protocol):
    """A Kubernetes cluster for development and tests."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with every right, usable from this machine."""

    @property
    def service_url(self) -> str:
        """Where NodePort 30080 answers on this machine."""

    def up(self) -> None:
        """Bring it up, or say that it is up. Cleans what an interrupted run left, first."""

    def down(self) -> None:
        """Take it away with everything it made. Fine when there is nothing."""

    def load_image(self, archive: Path) -> None:
        """Make the image in a docker archive available to pods, unless it is already."""


def ports(name: str, environ: Mapping[str, str]) -> tuple[int, int]:
    """The host ports for API server and service; 0 means any free one."""
    api, service = PORTS.get(name, (0, 0))
    return (
        _port("TIDEGATE_API_PORT", api, environ),
        _port("TIDEGATE_SERVICE_PORT", service, environ),
    )


def _port(variable: str, default: int, environ: Mapping[str, str]) -> int:
    text = environ.get(variable) or str(default)
    if not text.isdigit() or int(text) > 65535:
        raise ClusterError(f"{variable}={text} is not a port. Give a number up to 65535.")
    return int(text)


def choose(
    name: str = "tidegate",
    environ: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> Cluster:
    """A cluster somebody points at, else kind where it can run, else the node built here.

    TIDEGATE_CLUSTER=existing|kind|node decides by hand.
    """
    from .engine import container_engine
    from .existing import Existing
    from .kind import Kind, kind_program
    from .node import Node, state_folder

    progress = progress or Progress()
    wish = environ.get("TIDEGATE_CLUSTER", "")
    if wish not in ("", "existing", "kind", "node"):
        raise ClusterError(
            f"TIDEGATE_CLUSTER={wish} is none of existing, kind, node. Leave it unset to have "
            "the right one chosen."
        )
    pointed_at = environ.get("KUBECONFIG", "")
    # A shell that still has the kubeconfig of `make up` exported means a cluster made here. With
    # LOAD_IMAGE beside it, it means that very cluster.
    ours = state_folder(name).parent in Path(pointed_at).absolute().parents
    ours = ours and not environ.get("LOAD_IMAGE")
    if wish == "existing" or (not wish and pointed_at and not ours):
        return Existing(environ, progress)
    if wish == "kind" or (not wish and container_engine() and kind_program()):
        return Kind(name, ports(name, environ), progress)
    if wish == "node" or sys.platform == "linux":
        return Node(name, ports(name, environ), progress)
    raise ClusterError(
        f"No cluster can run here: no container engine answers with `kind` beside it, and a node "
        f"without them needs Linux, not {sys.platform}.\n"
        "Start Docker or Podman and install kind, or point KUBECONFIG at a cluster."
    )
