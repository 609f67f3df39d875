"""Which control groups belong to a cluster."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import cgroups

V1 = """\
proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"


def test_each_controller_of_cgroup_v1_is_a_tree_of_its_own() -> None:
    trees = [path.name for path in cgroups.hierarchies(V1)]
    assert trees == ["cpu", "memory", "unified"]


def test_cgroup_v2_is_one_tree() -> None:
    assert cgroups.hierarchies(V2) == [Path("/sys/fs/cgroup")]


def test_clusters_never_share_a_group() -> None:
    names = ["tidegate", "tidegate-e2e", "e2e"]
    assert len({cgroups.group_name(name) for name in names}) == len(names)
