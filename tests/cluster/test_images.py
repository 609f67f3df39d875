"""How a Dockerfile reaches BuildKit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import images, standin
from tests.cluster.errors import ClusterError

IMAGE = images.Image(
    tag="localhost/tidegate/orders:dev",
    dockerfile=Path("/repo/Dockerfile"),
    context=Path("/repo"),
    target="service",
    build_contexts={"wheels": Path("/wheels")},
)
BASE = standin.StandIn(Path("/cache/base"), "sha256:abc")


def test_base_images_are_replaced_by_the_stand_in() -> None:
    arguments = images.buildctl_arguments(IMAGE, BASE, Path("/out.tar"), {})
    assert "--opt=context:python:3.13-slim=oci-layout://base@sha256:abc" in arguments
    assert "--opt=context:debian:trixie-slim=oci-layout://base@sha256:abc" in arguments
    assert "--oci-layout=base=/cache/base" in arguments


def test_target_contexts_and_proxies_are_passed_on() -> None:
    arguments = images.buildctl_arguments(
        IMAGE, BASE, Path("/out.tar"), {"HTTPS_PROXY": "http://proxy:3128"}
    )
    assert "--opt=target=service" in arguments
    assert "--local=wheels=/wheels" in arguments
    assert "--opt=build-arg:HTTPS_PROXY=http://proxy:3128" in arguments


def test_a_missing_dockerfile_is_named() -> None:
    with pytest.raises(ClusterError, match="/repo/Dockerfile does not exist"):
        images.build(IMAGE)
