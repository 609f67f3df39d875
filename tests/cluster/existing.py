"""A cluster that somebody else runs: `KUBECONFIG=… make e2e`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import archive
from .errors import ClusterError
from .interface import SERVICE_NODE_PORT
from .kubectl import kubectl
from .progress import Progress

EXAMPLE = "LOAD_IMAGE='minikube image load {archive}'"


class Existing:
    """See `interface.Cluster`. It is never created or removed here, only used.

    LOAD_IMAGE is the command that gives it an image archive. SERVICE_URL says where NodePort
    30080 answers; unset, it is asked for at the first node's own address.
    """

    def __init__(self, environ: Mapping[str, str], progress: Progress) -> None:
        first = environ.get("KUBECONFIG", "").split(":")[0]
        self.kubeconfig = Path(first) if first else Path.home() / ".kube" / "config"
        self._load_command = environ.get("LOAD_IMAGE", "")
        self._service_url = environ.get("SERVICE_URL", "")
        self._progress = progress

    @property
    def service_url(self) -> str:
        """Where NodePort 30080 answers."""
        if self._service_url:
            return self._service_url.rstrip("/")
        nodes = json.loads(kubectl(self.kubeconfig, "get", "nodes", "-o=json"))["items"]
        for address in (row for node in nodes for row in node["status"]["addresses"]):
            if address["type"] == "InternalIP":
                return f"http://{address['address']}:{SERVICE_NODE_PORT}"
        raise ClusterError(
            "No node of this cluster has an InternalIP to reach its NodePorts at.\n"
            f"Say with SERVICE_URL where NodePort {SERVICE_NODE_PORT} answers."
        )

    def up(self) -> None:
        """Check that the cluster answers and that images can get there, before anything is done.

        Asking for LOAD_IMAGE also keeps a KUBECONFIG that happens to be exported, perhaps for
        production, from being taken for a test cluster.
        """
        if not self.kubeconfig.is_file():
            raise ClusterError(
                f"{self.kubeconfig} does not exist, and it should say which cluster to use.\n"
                "Mend KUBECONFIG, or unset it to have a cluster made here."
            )
        server = kubectl(
            self.kubeconfig,
            *("config", "view", "--minify", "-o=jsonpath={.clusters[0].cluster.server}"),
        )
        if not self._load_command:
            raise ClusterError(
                f"KUBECONFIG points at {server}; to use that cluster, say how it gets images: "
                f"{EXAMPLE}\nUnset KUBECONFIG to have a cluster made here instead."
            )
        loader = shlex.split(self._load_command)[0]
        if shutil.which(loader) is None:
            raise ClusterError(f"LOAD_IMAGE runs {loader}, which is not here. Mend it: {EXAMPLE}")
        self._progress.plan(1)
        with self._progress.step(f"use the cluster at {server}"):
            kubectl(self.kubeconfig, "get", "--raw=/readyz", "--request-timeout=10s")

    def down(self) -> None:
        """Leave it alone."""
        self._progress.note(f"the cluster of {self.kubeconfig} is not ours: left as it is")

    def load_image(self, archive_path: Path) -> None:
        """Run LOAD_IMAGE with `{archive}` replaced."""
        archive.read(archive_path)
        if not self._load_command:
            raise ClusterError(
                f"LOAD_IMAGE is not set, so images cannot get into the cluster. Set it: {EXAMPLE}"
            )
        command = [
            part.replace("{archive}", str(archive_path)) for part in shlex.split(self._load_command)
        ]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ClusterError(f"LOAD_IMAGE cannot be run: {error}. Mend it: {EXAMPLE}") from None
        if ended.returncode:
            raise ClusterError(f"`{shlex.join(command)}` failed: {ended.stderr.strip()}")
