"""The control group of one cluster: pods below it, gone with it, whatever the host runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
# What kubelet asks for on a host with cgroup v2.
CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "hugetlb", "io")


def group_name(cluster: str) -> str:
    """One group per cluster, so that several can run side by side."""
    return f"tidegate-{cluster}"


def hierarchies(mounts: str) -> list[Path]:
    """Every mounted cgroup tree: one with cgroup v2, one per controller with v1.

    `mounts` is the text of /proc/mounts.
    """
    rows = [line.split() for line in mounts.splitlines()]
    return [Path(row[1]) for row in rows if len(row) > 2 and row[2] in ("cgroup", "cgroup2")]


def _mounted() -> list[Path]:
    return [path for path in hierarchies(Path("/proc/mounts").read_text()) if path.is_dir()]


def create(cluster: str) -> None:
    """Make the cluster's group in every tree, ready to have children."""
    trees = _mounted()
    for tree in trees:
        group = tree / group_name(cluster)
        try:
            group.mkdir(exist_ok=True)
            # Beside v1 trees, the one of v2 has no controller that anybody uses.
            if len(trees) == 1 and (tree / "cgroup.controllers").exists():
                _pass_on_controllers(tree)
                _pass_on_controllers(group)
            elif (tree / "cpuset.cpus").exists():
                # An empty cpuset takes no process.
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((tree / name).read_text())
        except OSError as error:
            raise ClusterError(
                f"Cannot set up the control group {group}: {error}.\n"
                "The node needs a writable /sys/fs/cgroup: run it as root, outside a container."
            ) from None


def _pass_on_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    wanted = [f"+{name}" for name in CONTROLLERS if name in available]
    if wanted:
        (group / "cgroup.subtree_control").write_text(" ".join(wanted))


def remove(cluster: str) -> None:
    """Remove the cluster's groups; its processes must have ended."""
    for tree in _mounted():
        group = tree / group_name(cluster)
        # Dead processes leave a group a moment after they are gone.
        for attempt in range(100):
            try:
                _remove_tree(group)
                break
            except OSError as error:
                if attempt == 99:
                    raise ClusterError(
                        f"Cannot remove the control group {group}: {error}.\n"
                        f"See which processes are in it: find {group} -name cgroup.procs | "
                        "xargs cat"
                    ) from None
                time.sleep(0.05)


def _remove_tree(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
