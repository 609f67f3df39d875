"""The node itself: the first process in namespaces of its own.

`node.py` starts it under `unshare`, as PID 1. It makes the network, starts every component and
watches them. When it dies the kernel ends everything it started and takes back its mounts,
interfaces, routes and firewall rules: that is how `down` leaves nothing.

Everything is found under /run/tidegate, whatever the folder is called outside, so that paths
stay short enough for Unix sockets.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import cgroups, kubeconfig
from .controlplane import KUBERNETES_SERVICE, SERVICE_CIDR, ControlPlane, Settings
from .errors import ClusterError
from .processes import Process, wait_until

HOME = Path("/run/tidegate")
NODE_ADDRESS = "10.97.0.1"
POD_CIDR = "10.244.0.0/16"
DNS_ADDRESS = "10.96.0.10"
API_PORT = 6443
SERVICE_NODE_PORT = 30080
PAUSE_IMAGE = "localhost/tidegate/pause:cluster"
RUNTIME_SOCKET = "/run/containerd/containerd.sock"
# Nobody outside may take the containerd that only forgets old containers for the real one.
FORGET_SOCKET = "/run/containerd/forget.sock"

# kubelet sets these for the whole machine; here it writes to files of its own instead.
MACHINE_SETTINGS = (
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxbytes",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
)


@dataclass(frozen=True)
class Plan:
    """What the outside decides; handed over as JSON in plan.json."""

    name: str
    api_port: int
    api_listener: int
    service_listener: int
    programs: dict[str, str]


def main(state: Path) -> NoReturn:
    """Bring the node up, then watch it until something ends."""
    plan = Plan(**json.loads((state / "plan.json").read_text()))
    _mounts(state)
    _network()
    started = _components(plan)
    (HOME / "started").touch()
    _watch(started)


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = (ended.stderr or ended.stdout).strip()
        raise ClusterError(
            f"`{' '.join(command)}` failed: {reason}\n"
            "The node needs root with the right to mount and to set up networks."
        )


def _mounts(state: Path) -> None:
    # A /run of its own: sockets and the CNI's network namespaces end with it.
    room = state / "run"
    room.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(room))
    (room / HOME.name).mkdir()
    _run("mount", "--bind", str(state), str(room / HOME.name))
    _run("mount", "--no-mtab", "--move", str(room), "/run")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")
    # kubelet and the CNI write here whatever they are told; the machine's folder stays as it is.
    for part in ("upper", "work"):
        Path(f"/run/var-lib/{part}").mkdir(parents=True)
    layers = "lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/work"
    _run("mount", "-t", "overlay", "-o", layers, "overlay", "/var/lib")
    # kubelet passes mounts on to containers, among processes of these namespaces only.
    _run("mount", "--make-rshared", "/")
    for setting in map(Path, MACHINE_SETTINGS):
        if setting.exists():
            copy = Path("/run") / setting.name
            copy.write_text(setting.read_text())
            _run("mount", "--bind", str(copy), str(setting))


def _network() -> None:
    # Pods are routed, not bridged, and nothing leads out of this namespace.
    _run("ip", "link", "set", "lo", "up")
    # A bridge without ports, because not every kernel has the dummy type.
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    # The node's own processes need a route to service addresses before kube-proxy rewrites them.
    _run("ip", "route", "add", SERVICE_CIDR, "dev", "node0")
    _run("ip", "route", "add", "blackhole", POD_CIDR)
    # Whatever looks for the outside hears "unreachable" at once, every time, and never waits.
    _run("ip", "route", "add", "unreachable", "default")
    settings = Path("/proc/sys/net/ipv4")
    (settings / "icmp_ratelimit").write_text("0")
    (settings / "ip_forward").write_text("1")


def _components(plan: Plan) -> list[Process]:
    containerd = _containerd(plan)
    plane = ControlPlane(
        HOME,
        Settings(
            name=plan.name,
            # Every address of the namespace: pods come in through 10.96.0.1.
            bind="0.0.0.0",  # noqa: S104
            hosts=(
                NODE_ADDRESS,
                "127.0.0.1",
                KUBERNETES_SERVICE,
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ),
            api_port=API_PORT,
            etcd_port=2379,
            arguments=("--allow-privileged=true", "--enable-admission-plugins=NodeRestriction"),
        ),
        programs={name: Path(path) for name, path in plan.programs.items()},
    )
    plane.__enter__()
    forwarder = _start(
        "forwarder",
        [
            sys.executable,
            *("-m", f"{__package__}.forwarder"),
            f"{plan.api_listener}:{NODE_ADDRESS}:{API_PORT}",
            f"{plan.service_listener}:{NODE_ADDRESS}:{SERVICE_NODE_PORT}",
        ],
        descriptors=(plan.api_listener, plan.service_listener),
    )
    outside = f"https://127.0.0.1:{plan.api_port}"
    authority = plane.keys.authority.certificate
    kubeconfig.write(HOME / "kubeconfig", plan.name, outside, authority, plane.keys.admin)
    return [
        containerd,
        *plane.processes,
        forwarder,
        _kubelet(plan, plane),
        _proxy(plan, plane),
        _controller_manager(plan, plane),
        _scheduler(plan, plane),
    ]


def _start(
    name: str, command: list[str | Path], descriptors: tuple[int, ...] = (), path: str = ""
) -> Process:
    environment = {"PATH": f"{path}:{os.environ['PATH']}"} if path else None
    log = HOME / "logs" / f"{name}.log"
    return Process(name, command, log, environment, descriptors)


def _containerd(plan: Plan) -> Process:
    forget = HOME / "containerd-forget.toml"
    config = HOME / "containerd.toml"
    forget.write_text(_containerd_config(plan, FORGET_SOCKET))
    config.write_text(_containerd_config(plan, RUNTIME_SOCKET))
    program = plan.programs["containerd"]
    shims = str(Path(plan.programs["containerd-shim-runc-v2"]).parent)

    def run(configuration: Path, socket: str) -> Process:
        process = _start("containerd", [program, "--config", configuration], path=shims)
        wait_until("containerd listening", lambda: _listens(plan, socket), 20, [process])
        return process

    if (HOME / "containerd").exists():
        # Images are kept from one run to the next; the containers of the last run are dead.
        first = run(forget, FORGET_SOCKET)
        _forget_containers(plan)
        first.kill()
        for kind in ("sandboxes", "containers"):
            shutil.rmtree(
                HOME / "containerd" / "io.containerd.grpc.v1.cri" / kind, ignore_errors=True
            )
    return run(config, RUNTIME_SOCKET)


def _ctr(plan: Plan, socket: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [plan.programs["ctr"], "--address", socket, "--namespace", "k8s.io"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def _listens(plan: Plan, socket: str) -> bool:
    return Path(socket).exists() and _ctr(plan, socket, "version").returncode == 0


def _forget_containers(plan: Plan) -> None:
    names = _ctr(plan, FORGET_SOCKET, "containers", "list", "--quiet").stdout.split()
    if names:
        _ctr(plan, FORGET_SOCKET, "containers", "delete", *names)
    rows = _ctr(plan, FORGET_SOCKET, "sandboxes", "list").stdout.splitlines()[1:]
    if rows:
        # By force: there is no process left that could be asked to stop.
        _ctr(plan, FORGET_SOCKET, "sandboxes", "remove", "--force", *(r.split()[0] for r in rows))


def _containerd_config(plan: Plan, socket: str) -> str:
    disabled = ["io.containerd.internal.v1.opt"]  # would make /opt/containerd
    if socket == FORGET_SOCKET:
        disabled.append("io.containerd.grpc.v1.cri")
    plugins = Path(plan.programs["ptp"]).parent
    network = HOME / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-tidegate.conflist").write_text(json.dumps(_pod_network()))
    return f"""version = 3
root = "{HOME}/containerd"
state = "/run/containerd"
disabled_plugins = {json.dumps(disabled)}

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
# A root without CAP_SYS_RESOURCE may not lower a score: then every pod would fail to start.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{network}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{plan.programs["runc"]}"
SystemdCgroup = false
"""


def _pod_network() -> dict[str, Any]:
    # Point-to-point links: all traffic between pods is routed, so service addresses work
    # between them without the br_netfilter module that a bridge would need.
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "tidegate",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(plan: Plan, plane: ControlPlane) -> Process:
    serving = plane.keys.authority.issue(
        f"system:node:{plan.name}", file="kubelet-server", hosts=(NODE_ADDRESS, plan.name)
    )
    resolver = HOME / "resolv.conf"
    resolver.write_text(f"nameserver {DNS_ADDRESS}\n")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.keys.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.group_name(plan.name)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "podLogsDir": str(HOME / "pod-logs"),
        "volumePluginDir": str(HOME / "volume-plugins"),
        "oomScoreAdj": 0,
        # A developer's disk is often nearly full; that must evict nobody and lose no image.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "shutdownGracePeriod": "0s",
    }
    path = HOME / "kubelet.json"
    path.write_text(json.dumps(config, indent=2))
    user = plane.client("kubelet", f"system:node:{plan.name}", "system:nodes")
    return _start(
        "kubelet",
        [
            plan.programs["kubelet"],
            f"--config={path}",
            f"--kubeconfig={user}",
            f"--hostname-override={plan.name}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={HOME / 'kubelet'}",
            f"--cert-dir={HOME / 'keys'}",
        ],
    )


def _proxy(plan: Plan, plane: ControlPlane) -> Process:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": str(plane.client("proxy", "system:kube-proxy"))},
        "hostnameOverride": plan.name,
        "oomScoreAdj": 0,
        # These would be set for the whole machine.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    }
    path = HOME / "proxy.json"
    path.write_text(json.dumps(config, indent=2))
    return _start("kube-proxy", [plan.programs["kube-proxy"], f"--config={path}"])


def _controller_manager(plan: Plan, plane: ControlPlane) -> Process:
    user = plane.client("controller-manager", "system:kube-controller-manager")
    return _start(
        "kube-controller-manager",
        [
            plan.programs["kube-controller-manager"],
            f"--kubeconfig={user}",
            f"--authentication-kubeconfig={user}",
            f"--authorization-kubeconfig={user}",
            "--bind-address=127.0.0.1",
            f"--root-ca-file={plane.keys.authority.certificate}",
            f"--service-account-private-key-file={plane.keys.service_accounts}",
            "--use-service-account-credentials",
            f"--flex-volume-plugin-dir={HOME / 'volume-plugins'}",
            "--leader-elect=false",
        ],
    )


def _scheduler(plan: Plan, plane: ControlPlane) -> Process:
    user = plane.client("scheduler", "system:kube-scheduler")
    return _start(
        "kube-scheduler",
        [
            plan.programs["kube-scheduler"],
            f"--kubeconfig={user}",
            f"--authentication-kubeconfig={user}",
            f"--authorization-kubeconfig={user}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
    )


def _watch(components: list[Process]) -> NoReturn:
    """Reap orphans, as PID 1 must, and end the node loudly when a component ends.

    A component restarted in silence would hide the fault that a test is there to find.
    """
    ours = {process.pid for process in components}
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None:
            time.sleep(1)
        elif ended.si_pid in ours:
            for process in components:
                process.check()
        else:
            os.waitpid(ended.si_pid, 0)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ClusterError as failure:
        sys.exit(f"{failure}")
