"""`make up` and `make down`: the whole product on a cluster, from images to a served order.

python -m tests.cluster.release up|down [--name NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from . import toolchain
from .errors import ClusterError
from .existing import Existing
from .images import REPOSITORY, Image, build, content_tag
from .interface import SERVICE_NODE_PORT, Cluster, choose
from .kubectl import kubectl
from .processes import end_as_by_ctrl_c
from .progress import Progress
from .shopping import ADMIN, make_key, order_commands, order_tea

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "shop"
SECRETS = "orders-secrets"  # what the service signs with
# Marks the namespaces that `up` made, for `down` to know them again.
OURS = "tidegate.dev/made-by=make-up"
OPERATOR_NAMESPACE = "tidegate-system"
# What the Dockerfile copies; the images' tag is made of it, so an unchanged tree changes nothing.
IMAGE_INPUTS = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE", "requirements",
                "app", "operator", "migrations-job")  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """An order, and the API key that it was placed with."""

    order: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Release:
    """The product on one cluster. Each step can be repeated.

    ``tag`` is the checkout's own, as it was when the release began.
    """

    cluster: Cluster
    progress: Progress
    tag: str = field(default_factory=lambda: content_tag(ROOT, IMAGE_INPUTS))

    def up(self) -> Placed:
        """Bring up everything; return the order that was placed and read back."""
        self.progress.plan(10)
        for name in ("kubectl", "helm"):
            toolchain.program(name, self.progress)
        self.cluster.up()
        self.database()
        self.secrets()
        self.operator(self.image("operator", self.tag))
        self.service(self.image("service", self.tag))
        with self.progress.step("wait until the SchemaGate is Ready"):
            self.kubectl("wait", "schemagate/orders", "--for=condition=Ready", "--timeout=90s")
        with self.progress.step("place an order and read it back"):
            return self.place_order()

    def image(self, target: str, tag: str, context: Path = ROOT) -> str:
        """Build one target of the Dockerfile and give it to the cluster; return its tag."""
        name = f"{REPOSITORY}/{'orders' if target == 'service' else target}:{tag}"
        archive = build(Image(name, context / "Dockerfile", context, target), self.progress)
        with self.progress.step(f"load image {name}"):
            self.cluster.load_image(archive)
        return tag

    def database(self) -> None:
        """Run PostgreSQL in the cluster: a fixture, not part of the product."""
        folder = Path(__file__).parent / "postgres"
        tag = content_tag(folder, ["Dockerfile", "entrypoint.sh"])
        name = f"{REPOSITORY}/postgres:{tag}"
        archive = build(Image(name, folder / "Dockerfile", folder), self.progress)
        with self.progress.step("start PostgreSQL"):
            self.cluster.load_image(archive)
            for namespace in (NAMESPACE, OPERATOR_NAMESPACE):
                self._namespace(namespace)
            manifest = (folder / "postgres.yaml").read_text()
            self._apply(manifest.replace(f"{REPOSITORY}/postgres:TAG", name))
            self.kubectl("rollout", "status", "statefulset/postgres", "--timeout=120s")

    def secrets(self) -> None:
        """Make the service's own secrets, once: a new one would refuse every token in use."""
        if self.kubectl("get", "secret", SECRETS, "--ignore-not-found", "--output=name"):
            return
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRETS},
            "stringData": {"APP_JWT_SECRET": token_urlsafe(48)},
        }
        self._apply(json.dumps(manifest))

    def operator(self, tag: str) -> None:
        """Release the operator and its CRD."""
        with self.progress.step("helm upgrade --install tidegate-operator --wait"):
            self._unlock("tidegate-operator", OPERATOR_NAMESPACE)
            ended = self.helm(
                *("upgrade", "--install", "tidegate-operator", str(ROOT / "chart" / "operator")),
                *("--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout=3m"),
                *("--set", f"image.repository={REPOSITORY}/operator", "--set-string"),
                f"image.tag={tag}",
            )
            _require(ended)

    def service(self, tag: str, *arguments: str) -> None:
        """Release the service: its migration Job first, then its pods.

        Raises:
            ClusterError: Helm's own words.
        """
        with self.progress.step("helm upgrade --install orders --wait"):
            self._unlock("orders", NAMESPACE)
            _require(self.try_service(tag, *arguments))

    def try_service(self, tag: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Release the service and return how Helm ended, whichever way."""
        return self.helm(
            *("upgrade", "--install", "orders", str(ROOT / "chart" / "service")),
            *("--namespace", NAMESPACE, "--wait", "--timeout=5m"),
            *("--set", f"image.repository={REPOSITORY}/orders", "--set-string", f"image.tag={tag}"),
            *("--set", "database.secretName=orders-database"),
            *("--set", f"envFrom[0].secretRef.name={SECRETS}"),
            *("--set", f"service.type=NodePort,service.nodePort={SERVICE_NODE_PORT}"),
            *("--set", "worker.enabled=true,worker.args={python,-m,orders,worker}"),
            *arguments,
        )

    def seed(self) -> str:
        """Make the admin, or give them a new password; return it."""
        seed = ("python", "-m", "orders", "seed", "--admin", ADMIN)
        return self.kubectl("exec", "deployment/orders", "--", *seed).strip()

    def place_order(self) -> Placed:
        """Order something over HTTP as an admin, and read the order back.

        Raises:
            ClusterError: the service did not answer as it should within 30 s.
        """
        url = self.cluster.service_url
        password = self.seed()
        deadline = time.monotonic() + 30
        while True:  # a NodePort's rules may follow the pods by a moment
            try:
                key = make_key(url, password)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"{url} does not answer: {error}") from None
                time.sleep(0.2)
        order, read = order_tea(url, key)
        if read != order or read["total_cents"] != 900:
            raise ClusterError(f"the order was read back differently: {order} became {read}")
        return Placed(order, key)

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Helm against the cluster."""
        program = toolchain.program("helm")
        return subprocess.run(
            [program, *arguments, "--kubeconfig", str(self.cluster.kubeconfig)],
            capture_output=True,
            text=True,
            check=False,
        )

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the service's namespace."""
        return kubectl(self.cluster.kubeconfig, "--namespace", NAMESPACE, *arguments)

    def get(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever kind was asked for
        """Read objects of the service's namespace as JSON."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def down(self) -> None:
        """Take the product from a cluster that stays, or the cluster with everything on it."""
        if isinstance(self.cluster, Existing):
            self.progress.plan(1)
            with self.progress.step("uninstall; the CRD stays, as another release may need it"):
                self._uninstall()
        self.cluster.down()

    def _uninstall(self) -> None:
        """Remove what `up` made on somebody else's cluster: what carries its label, no more."""
        for namespace in self.kubectl("get", "namespace", f"--selector={OURS}", "-oname").split():
            for release in self._helm_list(namespace.removeprefix("namespace/")):
                where = ("--namespace", release["namespace"])
                _require(self.helm("uninstall", release["name"], *where))
            self.kubectl("delete", namespace)

    def _helm_list(self, namespace: str) -> list[dict[str, str]]:
        ended = self.helm("list", "--namespace", namespace, "--output=json")
        _require(ended)
        releases: list[dict[str, str]] = json.loads(ended.stdout)
        return releases

    def helm_history(self, name: str) -> list[dict[str, Any]]:
        """Read the revisions of a release, oldest first."""
        ended = self.helm("history", name, "--namespace", NAMESPACE, "--output=json")
        _require(ended)
        revisions: list[dict[str, Any]] = json.loads(ended.stdout)
        return revisions

    def _unlock(self, name: str, namespace: str) -> None:
        """Forget a revision that an earlier, killed Helm left pending: it locks the release."""
        pending = "status in (pending-install, pending-upgrade, pending-rollback)"
        selector = f"--selector=owner=helm,name={name},{pending}"
        kubectl(self.cluster.kubeconfig, "--namespace", namespace, "delete", "secret", selector)

    def _namespace(self, name: str) -> None:
        found = self.kubectl("get", "namespace", name, "--ignore-not-found", "--output=json")
        key, _, value = OURS.partition("=")
        if found and json.loads(found)["metadata"].get("labels", {}).get(key) != value:
            raise ClusterError(
                f"This cluster has a namespace {name} already, and it is not ours.\n"
                f"Use another cluster, or, if nobody needs it: kubectl delete namespace {name}"
            )
        # Everything that we ship has to pass the strictest standard.
        labels = {"pod-security.kubernetes.io/enforce": "restricted", key: value}
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        self._apply(json.dumps(manifest))

    def _apply(self, manifest: str) -> None:
        command = ("--namespace", NAMESPACE, "apply", "--server-side", "--filename=-")
        kubectl(self.cluster.kubeconfig, *command, text=manifest)


def _require(ended: subprocess.CompletedProcess[str]) -> None:
    if ended.returncode:
        raise ClusterError(f"helm failed:\n{ended.stdout}{ended.stderr}".rstrip())


def _farewell(release: Release, placed: Placed, seconds: float) -> str:
    url = release.cluster.service_url
    programs = dict.fromkeys(
        str(Path(toolchain.program(name)).parent) for name in ("kubectl", "helm")
    )
    return f"""
The service answers at {url} (its API: {url}/api/docs) after {seconds:.0f} s.

Create an order, and read one back, with an API key of {ADMIN}:

{order_commands(url, placed.key, placed.order)}
Look at the release:

  export PATH={":".join(programs)}:$PATH KUBECONFIG={release.cluster.kubeconfig}
  kubectl get schemagates --namespace {NAMESPACE}
  kubectl get pods,hpa,jobs --namespace {NAMESPACE}

Its metrics are on the admin port, which no Service shows:

  kubectl port-forward --namespace {NAMESPACE} deployment/orders 9000 &
  curl -s 127.0.0.1:9000/metrics

Take it all away: make down
"""


def main(arguments: list[str]) -> int:
    """Run one command; a ClusterError is printed as it is, without a traceback."""
    parser = argparse.ArgumentParser(prog="make up|down")
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--name", default="tidegate", help="which cluster (default: tidegate)")
    chosen = parser.parse_args(arguments)
    progress = Progress()
    started = time.monotonic()
    end_as_by_ctrl_c()
    try:
        release = Release(choose(chosen.name, os.environ, progress), progress)
        if chosen.command == "down":
            release.down()
            return 0
        placed = release.up()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make up` goes on from here, `make down` cleans", file=sys.stderr)
        return 130
    print(_farewell(release, placed, time.monotonic() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
