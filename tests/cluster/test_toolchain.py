"""What is built, and when a build is repeated."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from tests.cluster import node, toolchain
from tests.cluster.errors import ClusterError

GO_MOD = """\
module example

go 1.26.0

tool (
\tgo.etcd.io/etcd/server/v3
\tk8s.io/kubernetes/cmd/kubelet
)

require k8s.io/kubernetes v1.36.3 // a comment

require (
\tgo.etcd.io/etcd/server/v3 v3.7.3 // indirect
)

replace (
\tk8s.io/api => k8s.io/api v0.36.3
)
"""


def test_a_go_mod_says_what_to_build_and_with_which_go() -> None:
    module = toolchain.parse_module("kubernetes", GO_MOD)
    assert module.tools == {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    }
    assert module.go == "1.26.0"
    assert module.requires["go.etcd.io/etcd/server/v3"] == "v3.7.3"


def test_programs_are_stamped_with_the_version_that_go_mod_pins() -> None:
    flags = toolchain.parse_module("kubernetes", GO_MOD).ldflags
    assert "version.gitVersion=v1.36.3" in flags
    assert "version.gitMinor=36" in flags


def test_every_program_of_the_node_has_a_module_with_checksums() -> None:
    for program in (*node.PROGRAMS, "helm", "buildkitd", "buildctl"):
        module = toolchain._module_of(program)
        own = not module.requires
        assert own or (module.folder / "go.sum").stat().st_size > 0


def test_a_build_is_repeated_when_go_or_the_flags_change_and_only_then() -> None:
    module = toolchain._module_of("helm")
    key = toolchain.build_key(module, "go1.26.8 linux/amd64")
    assert key == toolchain.build_key(module, "go1.26.8 linux/amd64")
    assert key != toolchain.build_key(module, "go1.26.9 linux/amd64")
    newer = dataclasses.replace(module, requires={"helm.sh/helm/v4": "v4.4.0"})
    assert key != toolchain.build_key(newer, "go1.26.8 linux/amd64")


def test_an_unknown_program_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match=r"No module .* builds 'kubelt'"):
        toolchain.ensure(["kubelt"])


def test_an_old_go_is_named_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go version go1.21.0 linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    toolchain._go_version.cache_clear()
    try:
        with pytest.raises(ClusterError, match=r"needs Go 1\.26.*has go1\.21\.0"):
            toolchain.ensure(["pause"])
    finally:
        toolchain._go_version.cache_clear()


def test_a_missing_debian_package_is_answered_with_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ClusterError, match="apt-get install iptables runc"):
        toolchain.debian_packages(["runc", "iptables"])
