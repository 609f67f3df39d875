"""A kind cluster, where a container engine answers and `kind` is installed.

Written from kind's documentation and not yet run: its authors had no container engine. The node
(`node.py`) is what is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from . import archive, toolchain
from .engine import container_engine
from .errors import ClusterError
from .interface import SERVICE_NODE_PORT
from .kubectl import add_on_image, apply
from .node import state_folder
from .progress import Progress


def kind_program() -> str:
    """Where `kind` is, else nothing."""
    return shutil.which("kind") or ""


class Kind:
    """See `interface.Cluster`."""

    def __init__(self, name: str, ports: tuple[int, int], progress: Progress) -> None:
        self.name = name
        self.state = state_folder(f"kind-{name}")
        self.kubeconfig = self.state / "kubeconfig"
        self._ports = ports
        self._progress = progress

    @property
    def service_url(self) -> str:
        """Where NodePort 30080 answers on this machine."""
        return f"http://127.0.0.1:{self._ports[1]}"

    def up(self) -> None:
        """Create the cluster; one that was interrupted half-way is deleted first."""
        if not kind_program() or not container_engine():
            raise ClusterError(
                "kind needs itself on PATH and a container engine that answers; one is missing.\n"
                "Install kind and start Docker or Podman, or unset TIDEGATE_CLUSTER."
            )
        if not self._ports[1]:
            raise ClusterError(
                f"No port is known for the cluster {self.name}. Set TIDEGATE_SERVICE_PORT."
            )
        ready = self.state / "ready"
        if self.name in self._run("get", "clusters").split():
            if ready.exists():
                self._progress.note(f"cluster {self.name} is already up")
                return
            self.down()
        self.state.mkdir(parents=True, exist_ok=True)
        self._progress.plan(2)
        toolchain.ensure(["kubectl", "metrics-server"], self._progress)
        with self._progress.step("create a kind cluster (about 1 min)"):
            self._run(
                *("create", "cluster", "--wait=120s", "--config=-"),
                f"--kubeconfig={self.kubeconfig}",
                f"--name={self.name}",
                text=json.dumps(self._config()),
            )
        with self._progress.step("metrics"):
            self.load_image(add_on_image("metrics-server"))
            # kind's kubelets serve with certificates that nobody signed.
            apply(self.kubeconfig, "metrics-server", _trust_any_kubelet)
        ready.touch()

    def down(self) -> None:
        """Delete the cluster."""
        if kind_program() and container_engine():
            self._run("delete", "cluster", f"--name={self.name}")
        shutil.rmtree(self.state, ignore_errors=True)

    def load_image(self, archive_path: Path) -> None:
        """Load a docker archive, unless its tags already stand for this very image."""
        contents = archive.read(archive_path)
        record = self.state / "loaded.json"
        loaded = json.loads(record.read_text()) if record.exists() else {}
        if contents.tags and all(loaded.get(tag) == contents.config for tag in contents.tags):
            return
        self._run("load", "image-archive", str(archive_path), f"--name={self.name}")
        record.write_text(json.dumps({**loaded, **dict.fromkeys(contents.tags, contents.config)}))

    def _config(self) -> dict[str, object]:
        mapping = {
            "containerPort": SERVICE_NODE_PORT,
            "hostPort": self._ports[1],
            "listenAddress": "127.0.0.1",
        }
        return {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": {"apiServerAddress": "127.0.0.1", "apiServerPort": self._ports[0]},
            "nodes": [{"role": "control-plane", "extraPortMappings": [mapping]}],
        }

    def _run(self, *arguments: str, text: str = "") -> str:
        ended = subprocess.run(
            [kind_program(), *arguments],
            input=text,
            env={**os.environ, "KIND_EXPERIMENTAL_PROVIDER": container_engine()},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            tail = "\n".join(ended.stderr.strip().splitlines()[-3:])
            raise ClusterError(f"kind {' '.join(arguments)} failed:\n{tail}")
        return ended.stdout


def _trust_any_kubelet(manifest: str) -> str:
    checked = "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    return manifest.replace(checked, "--kubelet-insecure-tls")
