"""The few things said to a cluster's API server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import archive, toolchain
from .errors import ClusterError
from .images import REPOSITORY

ADD_ON_TAG = "cluster"
MANIFESTS = Path(__file__).parent / "manifests"


def kubectl(kubeconfig: Path, *arguments: str, text: str = "") -> str:
    """Run kubectl and give what it prints."""
    program = toolchain.program("kubectl")
    ended = subprocess.run(
        [program, "--kubeconfig", str(kubeconfig), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()}")
    return ended.stdout


def add_on_image(name: str) -> Path:
    """The image archive of CoreDNS, metrics-server or pause, from its program."""
    program = toolchain.binary(name)
    target = toolchain.cache_root() / "images" / f"{program.parent.name}.tar"
    with toolchain.locked(target.with_suffix(".lock")):
        if not target.exists():
            tag = f"{REPOSITORY}/{name}:{ADD_ON_TAG}"
            archive.program_image(target, tag, program, user=65532)
    return target


def apply(
    kubeconfig: Path, manifest: str, change: Callable[[str], str] = lambda text: text
) -> None:
    """Apply one of the manifests beside this file."""
    text = change((MANIFESTS / f"{manifest}.yaml").read_text())
    kubectl(kubeconfig, "apply", "--server-side", "--filename=-", text=text)


def wait_available(kubeconfig: Path, deployment: str, seconds: int) -> None:
    """Wait for a Deployment of kube-system."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = json.loads(
            kubectl(kubeconfig, "get", "-n=kube-system", f"deployment/{deployment}", "-o=json")
        )["status"]
        if status.get("availableReplicas"):
            return
        time.sleep(0.2)
    pods = kubectl(kubeconfig, "get", "pods", "-n=kube-system", "-o=wide")
    raise ClusterError(
        f"{deployment} did not become available within {seconds} s. Its pods:\n{pods}"
        "`kubectl -n kube-system describe pods` says why."
    )
