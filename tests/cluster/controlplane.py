"""etcd and kube-apiserver: the whole API of Kubernetes, ready in about three seconds.

Alone it serves `make test`: real validation, real RBAC, real watches and tokens, no pods.

    with ControlPlane(tmp_path) as plane:
        kubectl("--kubeconfig", plane.kubeconfig, ...)

The node (`inside.py`) runs the same class with fixed addresses and adds the rest.
"""

from __future__ import annotations

import shutil
import socket
import ssl
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from types import TracebackType

from . import kubeconfig, toolchain
from .certificates import Authority, Pair, service_account_key
from .processes import Process, wait_until

SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class Settings:
    """What differs between a control plane alone and one that has a node."""

    name: str = "tidegate-test"
    bind: str = "127.0.0.1"
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    api_port: int = 0
    etcd_port: int = 0
    arguments: tuple[str, ...] = (
        # Nobody makes default service accounts here, and a pod without one would be refused.
        "--disable-admission-plugins=ServiceAccount",
        # A loopback address may not stand in the endpoints of the `kubernetes` Service.
        "--endpoint-reconciler-type=none",
    )


@dataclass
class Keys:
    """The certificates of one cluster, in one folder."""

    folder: Path
    hosts: tuple[str, ...]
    authority: Authority = field(init=False)
    front_proxy: Authority = field(init=False)
    server: Pair = field(init=False)
    to_kubelet: Pair = field(init=False)
    aggregator: Pair = field(init=False)
    admin: Pair = field(init=False)
    service_accounts: Path = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder, "ca")
        # An authority of its own: with one for both, an aggregated API server takes the proxy
        # itself for the user and answers 403.
        self.front_proxy = Authority(self.folder, "front-proxy-ca")
        self.server = self.authority.issue("kube-apiserver", hosts=self.hosts)
        self.to_kubelet = self.authority.issue(
            "kube-apiserver-kubelet-client", organization="system:masters"
        )
        self.aggregator = self.front_proxy.issue("front-proxy-client")
        self.admin = self.authority.issue("admin", organization="system:masters")
        self.service_accounts = service_account_key(self.folder / "service-accounts.key")


class ControlPlane:
    """A context manager; the processes end with it, and with the process that entered it."""

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        programs: dict[str, Path] | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings or Settings()
        self._programs = programs
        self.api_port = self.settings.api_port or free_port()
        self.etcd_port = self.settings.etcd_port or free_port()
        self.url = f"https://{self.settings.hosts[0]}:{self.api_port}"
        self.kubeconfig = directory / "admin.kubeconfig"
        self.processes: list[Process] = []
        self.keys: Keys

    def __enter__(self) -> ControlPlane:
        programs = self._programs or toolchain.ensure(["etcd", "kube-apiserver"])
        self.keys = Keys(self.directory / "keys", self.settings.hosts)
        kubeconfig.write(
            self.kubeconfig,
            self.settings.name,
            self.url,
            self.keys.authority.certificate,
            self.keys.admin,
        )
        try:
            self._start("etcd", [programs["etcd"], *self._etcd_arguments()])
            wait_until("etcd listening", self._etcd_listens, 20, self.processes)
            self._start("kube-apiserver", [programs["kube-apiserver"], *self._api_arguments()])
            wait_until("kube-apiserver becoming ready", self.ready, 60, self.processes)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both processes and drop the data."""
        while self.processes:
            self.processes.pop().kill()
        shutil.rmtree(self.directory / "etcd", ignore_errors=True)

    def ready(self) -> bool:
        """Does /readyz say yes? It does so only after the default roles exist."""
        trust = ssl.create_default_context(cafile=str(self.keys.authority.certificate))
        server = HTTPSConnection(self.settings.hosts[0], self.api_port, timeout=5, context=trust)
        try:
            server.request("GET", "/readyz")
            return server.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            server.close()

    def client(self, file: str, user: str, organization: str = "") -> Path:
        """A kubeconfig for another user, signed by this cluster's authority."""
        return kubeconfig.write(
            self.directory / f"{file}.kubeconfig",
            self.settings.name,
            self.url,
            self.keys.authority.certificate,
            self.keys.authority.issue(user, organization, file),
        )

    def _start(self, name: str, command: list[str | Path]) -> None:
        self.processes.append(Process(name, command, self.directory / "logs" / f"{name}.log"))

    def _etcd_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.etcd_port), timeout=1).close()
        except OSError:
            return False
        return True

    def _etcd_arguments(self) -> list[str]:
        url = f"http://127.0.0.1:{self.etcd_port}"
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            # One member never talks to a peer; port 0 keeps two clusters from colliding.
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",  # the data is thrown away anyway
            "--log-level=warn",
        ]

    def _api_arguments(self) -> list[str]:
        keys = self.keys
        return [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--bind-address={self.settings.bind}",
            f"--advertise-address={self.settings.hosts[0]}",
            f"--secure-port={self.api_port}",
            f"--tls-cert-file={keys.server.certificate}",
            f"--tls-private-key-file={keys.server.key}",
            f"--client-ca-file={keys.authority.certificate}",
            "--authorization-mode=Node,RBAC",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={keys.service_accounts}",
            f"--service-account-signing-key-file={keys.service_accounts}",
            f"--kubelet-certificate-authority={keys.authority.certificate}",
            f"--kubelet-client-certificate={keys.to_kubelet.certificate}",
            f"--kubelet-client-key={keys.to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--proxy-client-cert-file={keys.aggregator.certificate}",
            f"--proxy-client-key-file={keys.aggregator.key}",
            f"--requestheader-client-ca-file={keys.front_proxy.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            *self.settings.arguments,
        ]


def free_port() -> int:
    """A port of the loopback interface that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
