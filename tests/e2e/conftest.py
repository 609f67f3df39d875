"""A real node with the product released on it, for every test of this room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.images import REPOSITORY, content_tag
from tests.cluster.interface import choose
from tests.cluster.progress import Progress
from tests.cluster.release import IMAGE_INPUTS, Release
from tests.e2e.images import checkout_with_revision
from tests.revisions import HEAD

EMPTY_THE_DATABASE = (
    "PGPASSWORD=$POSTGRES_PASSWORD psql --quiet -h 127.0.0.1 -U $POSTGRES_USER $POSTGRES_DB "
    "-c 'DROP SCHEMA public CASCADE; CREATE SCHEMA public'"
)


class Stage:
    """The cluster, and the images that tests release on it."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.base = release.tag

    def image_with_revision(
        self, folder: Path, name: str, statement: str, phase: str = "expand"
    ) -> str:
        """Build and load an image that ships one more revision; return its tag."""
        context = checkout_with_revision(folder, name, statement, phase)
        return self.release.image("service", content_tag(context, IMAGE_INPUTS), context)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Release]:
    """`make up` on a cluster of the tests' own, taken down at the end."""
    progress = Progress()
    release = Release(choose("tidegate-e2e", os.environ, progress), progress)
    try:
        release.up()
        yield release
    finally:
        release.down()


@pytest.fixture
def stage(cluster: Release) -> Stage:
    """The checkout's own image on the schema it ships, whatever earlier tests left there."""
    if not _as_released(cluster):
        cluster.kubectl("exec", "postgres-0", "--", "sh", "-c", EMPTY_THE_DATABASE)
        cluster.service(cluster.tag)
        deadline = time.monotonic() + 90
        while not _as_released(cluster):
            assert time.monotonic() < deadline, cluster.kubectl("describe", "schemagate/orders")
            time.sleep(1)
    return Stage(cluster)


def _as_released(cluster: Release) -> bool:
    status = cluster.get("schemagate/orders")["status"]
    ready = {row["type"]: row["status"] for row in status["conditions"]}["Ready"]
    released = (status.get("image"), status.get("heads"))
    return ready == "True" and released == (f"{REPOSITORY}/orders:{cluster.tag}", [HEAD])
