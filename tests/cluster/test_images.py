"""How a Dockerfile reaches BuildKit."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.cluster import images, standin
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress

IMAGE = images.Image(
    tag="localhost/tidegate/orders:dev",
    dockerfile=Path("/repo/Dockerfile"),
    context=Path("/repo"),
    target="service",
)
BASE = standin.StandIn(Path("/cache/base"), "sha256:abc")


def test_base_images_are_replaced_by_the_stand_in() -> None:
    arguments = images.buildctl_arguments(IMAGE, BASE, Path("/out.tar"), {})
    assert "--opt=context:python:3.13-slim=oci-layout://base@sha256:abc" in arguments
    assert "--opt=context:debian:trixie-slim=oci-layout://base@sha256:abc" in arguments
    assert "--oci-layout=base=/cache/base" in arguments


def test_target_and_proxies_are_passed_on() -> None:
    arguments = images.buildctl_arguments(
        IMAGE, BASE, Path("/out.tar"), {"HTTPS_PROXY": "http://proxy:3128"}
    )
    assert "--opt=target=service" in arguments
    assert "--opt=build-arg:HTTPS_PROXY=http://proxy:3128" in arguments


def test_a_missing_dockerfile_is_named() -> None:
    with pytest.raises(ClusterError, match="/repo/Dockerfile does not exist"):
        images.build(IMAGE)


def test_a_tag_changes_exactly_when_what_goes_into_the_image_does(tmp_path: Path) -> None:
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "app" / "main.py").write_text("1")
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    inputs = ["Dockerfile", "app"]
    tag = images.content_tag(tmp_path, inputs)
    (tmp_path / "app" / "__pycache__" / "main.pyc").write_text("compiled")
    (tmp_path / "notes.txt").write_text("not copied")
    assert images.content_tag(tmp_path, inputs) == tag
    (tmp_path / "app" / "main.py").write_text("2")
    assert images.content_tag(tmp_path, inputs) != tag


def test_what_was_built_under_a_tag_is_not_built_again_and_only_the_last_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.touch()
    built: list[str] = []

    def build(image: images.Image, target: Path, _: object) -> None:
        built.append(image.tag)
        target.touch()
        os.utime(target, (len(built), len(built)))

    monkeypatch.setattr(images, "container_engine", lambda: "")
    monkeypatch.setattr(images, "_with_buildkit", build)
    tags = [f"localhost/tidegate/orders:{number}" for number in range(6)]
    for tag in [*tags, tags[-1]]:
        images.build(images.Image(tag, dockerfile, tmp_path), Progress(io.StringIO()))
    assert built == tags
    kept = [tag for tag in tags if images.archive_of(tag).exists()]
    assert kept == tags[-images.KEPT_ARCHIVES :]
