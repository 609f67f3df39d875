"""A cluster of one real node, without container engine or registry.

Every component is built from pinned Go modules (`toolchain.py`) and runs in namespaces of its own
(`inside.py`). On the machine itself there is one process tree, one control group and the folder
`~/.cache/tidegate/clusters/<name>`; 127.0.0.1 leads in (`forwarder.py`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import archive, cgroups, toolchain
from .errors import ClusterError
from .images import REPOSITORY, archive_of
from .inside import HOME, RUNTIME_SOCKET, Plan
from .kubectl import ADD_ON_TAG, add_on_image, apply, kubectl, wait_available
from .processes import first_child, kill, log_tail, start_time, wait_until
from .progress import Progress

PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr"),
    *("ptp", "loopback", "host-local", "portmap", "pause", "coredns", "metrics-server"),
)
SYSTEM_PROGRAMS = ("runc", "iptables", "ip", "mount", "unshare")
ADD_ONS = ("pause", "coredns", "metrics-server")
# Kept by `down`: images, and what the last run had to say.
KEPT = ("containerd", "logs", "lock")


def state_folder(name: str) -> Path:
    """Where a cluster keeps its files."""
    return toolchain.cache_root() / "clusters" / name


class Node:
    """See `interface.Cluster`."""

    def __init__(self, name: str, ports: tuple[int, int], progress: Progress) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name):
            raise ClusterError(
                f"{name!r} cannot name a cluster, because its node has the same name.\n"
                "Use up to 40 lower-case letters, digits and dashes."
            )
        self.name = name
        self.state = state_folder(name)
        self.kubeconfig = self.state / "kubeconfig"
        self._ports = ports
        self._progress = progress
        self._launched: subprocess.Popen[bytes] | None = None

    @property
    def service_url(self) -> str:
        """Where NodePort 30080 answers on this machine."""
        recorded = self.state / "service-port"
        port = recorded.read_text() if recorded.exists() else str(self._ports[1])
        return f"http://127.0.0.1:{port}"

    def up(self) -> None:
        """Bring the node up; undo everything if that fails or is interrupted."""
        self._require_root()
        with toolchain.locked(self.state / "lock"):
            if self.is_up():
                self._progress.note(f"cluster {self.name} is already up")
                return
            self._progress.plan(4)
            toolchain.debian_packages(SYSTEM_PROGRAMS, self._progress)
            programs = toolchain.ensure(PROGRAMS, self._progress)
            self._clean()
            try:
                self._start(programs)
            except BaseException:
                self._clean()
                raise

    def down(self) -> None:
        """End the node and remove what it made; its images and logs stay in the cache."""
        if not self.state.exists():
            return
        self._require_root()
        with toolchain.locked(self.state / "lock"):
            self._clean()
        self._progress.note(f"cluster {self.name} is down; its images stay in {self.state}")

    def load_image(self, archive_path: Path) -> None:
        """Import a docker archive into the node's containerd."""
        contents = archive.read(archive_path)
        present = {tag: self._config_of(tag) for tag in contents.tags}
        if present and set(present.values()) == {contents.config}:
            return
        self._ctr("images", "import", str(archive_path))

    def is_up(self) -> bool:
        """Is it running, and did its `up` come to its end?"""
        return self._node_process() is not None and (self.state / "ready").exists()

    def _require_root(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError(
                "The node needs root, for namespaces and control groups.\n"
                "Run it with sudo, or start a container engine and install kind: no root then."
            )

    def _start(self, programs: dict[str, Path]) -> None:
        listeners = [
            _listen(self._ports[0], "the API server", "TIDEGATE_API_PORT"),
            _listen(self._ports[1], "the service", "TIDEGATE_SERVICE_PORT"),
        ]
        try:
            with self._progress.step("start the node"):
                self._launch(programs, listeners)
                self._wait("containerd answering", self._containerd_answers, 60)
        finally:
            for listener in listeners:
                listener.close()
        with self._progress.step("load its images"):
            self._forget_images()
            for name in ADD_ONS:
                self.load_image(add_on_image(name))
        with self._progress.step("wait for the API server and the node"):
            self._wait("all components starting", (self.state / "started").exists, 90)
            self._wait("the node becoming ready", self._node_ready, 90)
        with self._progress.step("cluster DNS and metrics"):
            for name in ("coredns", "metrics-server"):
                apply(self.kubeconfig, name)
            wait_available(self.kubeconfig, "coredns", 60)
        (self.state / "ready").touch()

    def _launch(self, programs: dict[str, Path], listeners: list[socket.socket]) -> None:
        runc = shutil.which("runc")
        api, service = (listener.getsockname()[1] for listener in listeners)
        plan = Plan(
            name=self.name,
            api_port=api,
            api_listener=listeners[0].fileno(),
            service_listener=listeners[1].fileno(),
            programs={**{name: str(path) for name, path in programs.items()}, "runc": str(runc)},
        )
        (self.state / "plan.json").write_text(json.dumps(dataclasses.asdict(plan)))
        (self.state / "service-port").write_text(str(service))
        cgroups.create(self.name)
        log = self.state / "logs" / "node.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            # Kept for the one who may also end it; it outlives this process otherwise.
            self._launched = process = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"),
                    *("--mount-proc", "--propagation", "private", "--"),
                    *(sys.executable, "-m", f"{__package__}.inside", str(self.state)),
                ],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno() for listener in listeners],
                start_new_session=True,
            )
        (self.state / "pid").write_text(f"{process.pid} {start_time(process.pid)}")

    def _wait(self, what: str, answers: Callable[[], bool], seconds: float) -> None:
        def checked() -> bool:
            if self._node_process() is None:
                tail = log_tail(self.state / "logs" / "node.log", 6)
                raise ClusterError(f"The node ended. {tail.replace(str(HOME), str(self.state))}")
            return answers()

        wait_until(what, checked, seconds, hint=f"Its logs are in {self.state / 'logs'}.")

    def _containerd_answers(self) -> bool:
        try:
            self._ctr("plugins", "list")
        except ClusterError:
            return False
        return True

    def _node_ready(self) -> bool:
        try:
            answer = kubectl(
                self.kubeconfig,
                *("get", f"node/{self.name}"),
                '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}',
            )
        except ClusterError:
            return False
        return answer == "True"

    def _forget_images(self) -> None:
        """Drop the images of earlier releases that are no longer among the kept archives.

        Now, because nothing runs yet that could ask for one of them.
        """
        for tag in self._ctr("images", "list", "--quiet").split():
            ours = tag.startswith(f"{REPOSITORY}/") and not tag.endswith(f":{ADD_ON_TAG}")
            if ours and not archive_of(tag).exists():
                self._ctr("images", "remove", tag)

    def _config_of(self, tag: str) -> str:
        """The config digest of an image in the node, or nothing."""
        rows = self._ctr("images", "list", f"name=={tag}").splitlines()[1:]
        for digest in (row.split()[2] for row in rows):
            manifest = json.loads(self._ctr("content", "get", digest))
            for entry in manifest.get("manifests", ()):
                manifest = json.loads(self._ctr("content", "get", entry["digest"]))
                break
            return str(manifest["config"]["digest"])
        return ""

    def _ctr(self, *arguments: str) -> str:
        pid = self._first_process()
        if pid is None:
            raise ClusterError(f"Cluster {self.name} is not up. Bring it up first.")
        # The socket lies in the node's own /run; /proc leads there, and keeps the path short.
        address = f"/proc/{pid}/root{RUNTIME_SOCKET}"
        ended = subprocess.run(
            [
                str(toolchain.binary("ctr")),
                *("--address", address, "--namespace", "k8s.io"),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise ClusterError(f"ctr {' '.join(arguments)}: {ended.stderr.strip()}")
        return ended.stdout

    def _node_process(self) -> int | None:
        """The pid of `unshare`, unless it ended and the number now belongs to another."""
        with suppress(OSError, ValueError):
            pid, started = (self.state / "pid").read_text().split()
            if start_time(int(pid)) == started:
                return int(pid)
        return None

    def _first_process(self) -> int | None:
        """The node's PID 1, as the machine numbers it."""
        outer = self._node_process()
        return None if outer is None else first_child(outer)

    def _clean(self) -> None:
        for pid in (self._first_process(), self._node_process()):
            if pid is not None:
                kill(pid)
        if self._launched is not None:
            self._launched.wait()
            self._launched = None
        cgroups.remove(self.name)
        for path in self.state.iterdir():
            if path.name in KEPT:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _listen(port: int, what: str, variable: str) -> socket.socket:
    listener = socket.socket()
    # A port that only has dying connections is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ClusterError(
            f"127.0.0.1:{port}, meant for {what}, cannot be used: {error.strerror}.\n"
            f"Choose another with {variable}={port + 1 if port < 65535 else 0}; "
            f"`ss -ltnp 'sport = :{port}'` shows who has it."
        ) from None
    return listener
