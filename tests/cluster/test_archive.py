"""Image archives made without a builder."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.cluster import archive
from tests.cluster.errors import ClusterError

TAG = "localhost/tidegate/pause:cluster"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "pause"
    path.write_bytes(b"\x7fELF and so on")
    return path


def test_the_same_program_gives_the_same_image(tmp_path: Path, program: Path) -> None:
    first = archive.program_image(tmp_path / "one.tar", TAG, program, user=65532)
    program.touch()
    second = archive.program_image(tmp_path / "two.tar", TAG, program, user=65532)
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_says_its_name_and_which_image_it_is(tmp_path: Path, program: Path) -> None:
    contents = archive.read(archive.program_image(tmp_path / "one.tar", TAG, program, user=1))
    program.write_bytes(b"another program")
    other = archive.read(archive.program_image(tmp_path / "two.tar", TAG, program, user=1))
    assert contents.tags == (TAG,)
    assert contents.config.startswith("sha256:")
    assert contents.config != other.config


def test_something_else_is_refused_with_a_way_to_make_one(tmp_path: Path) -> None:
    junk = tmp_path / "junk.tar"
    junk.write_text("not a tar")
    with pytest.raises(ClusterError, match="docker save"):
        archive.read(junk)
    with tarfile.open(junk, "w"):
        pass
    with pytest.raises(ClusterError, match="docker save"):
        archive.read(junk)
    with pytest.raises(ClusterError, match="No such file"):
        archive.read(tmp_path / "absent.tar")
