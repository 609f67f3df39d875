"""Both sides of the storage: a directory, and a bucket of a real server that speaks S3."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

import pytest

from orders.storage.bucket import Bucket
from orders.storage.directory import Directory
from orders.storage.seam import ContentMissingError, Storage, StorageError, StorageFullError
from tests.orders.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, running_s3
from tests.ports import free_ports

LARGE = os.urandom(20 * 1024 * 1024 + 1)  # more than two parts


@dataclass
class Kept:
    """A storage, and the folder behind it."""

    storage: Storage
    folder: Path

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture(params=["directory", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "directory":
        return Kept(Directory(tmp_path / "files"), tmp_path / "files")
    s3: S3Server = request.getfixturevalue("s3")
    return Kept(Bucket(BUCKET, s3.url), s3.folder)


async def stream(content: bytes, piece: int = 65_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), piece):
        yield content[start : start + piece]


async def read(storage: Storage, key: UUID, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in await storage.read(key, start, stop)])


@pytest.mark.parametrize("content", [b"a", LARGE], ids=["small", "large"])
async def test_what_is_stored_is_read_in_parts_and_deleted(kept: Kept, content: bytes) -> None:
    key = uuid4()
    await kept.storage.write(key, stream(content))
    assert [path.name for path in kept.files() if path.name == key.hex] == [key.hex]
    assert await read(kept.storage, key, 0, len(content)) == content
    middle = len(content) // 2
    assert await read(kept.storage, key, middle, len(content)) == content[middle:]
    assert await read(kept.storage, key, 0, 1) == content[:1]
    await kept.storage.delete(key)
    assert not [path for path in kept.files() if path.name == key.hex]
    with pytest.raises(ContentMissingError):
        await read(kept.storage, key, 0, 1)
    await kept.storage.delete(key)  # once more changes nothing


async def test_what_is_refused_in_the_middle_is_never_there(kept: Kept) -> None:
    class RefusedError(Exception):
        pass

    async def refused() -> AsyncIterator[bytes]:
        async for chunk in stream(LARGE):
            yield chunk
        raise RefusedError

    before = kept.files()
    with pytest.raises(RefusedError):
        await kept.storage.write(uuid4(), refused())
    assert kept.files() == before


async def test_what_a_killed_process_has_left_is_deleted_with_its_key(tmp_path: Path) -> None:
    storage, key = Directory(tmp_path), uuid4()
    await storage.write(key, stream(b"a"))
    kept = Kept(storage, tmp_path)
    (whole,) = kept.files()
    whole.rename(whole.with_name(f"{key.hex}.part"))  # as it was before it was renamed
    with pytest.raises(ContentMissingError):
        await read(storage, key, 0, 1)
    await storage.delete(key)
    assert not kept.files()


async def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        told.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().suffix or 'folder'}")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        told.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    await Directory(tmp_path).write(uuid4(), stream(b"a"))
    assert told == ["sync folder", "sync folder", "sync .part", "rename", "sync folder"]


async def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("no directory")
    storage = Directory(tmp_path / "files")
    with pytest.raises(StorageError, match="cannot be used now"):
        await storage.write(uuid4(), stream(b"a"))
    with pytest.raises(StorageError, match="cannot be used now"):
        await storage.read(uuid4(), 0, 1)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let this process write no longer files than that, as a disk that is almost full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: Path) -> BinaryIO:
        return Path("/dev/full").open("wb", buffering=0)

    monkeypatch.setattr("orders.storage.directory._create", create)
    with pytest.raises(StorageFullError, match="no room left"):
        await Directory(tmp_path).write(uuid4(), stream(b"a"))


async def test_what_a_disk_takes_only_a_part_of_is_told(tmp_path: Path) -> None:
    kilobytes = 64
    with limited_files(kilobytes * 1024), pytest.raises(StorageFullError):
        await Directory(tmp_path).write(uuid4(), stream(bytes(kilobytes * 1024 + 1)))
    assert not Kept(Directory(tmp_path), tmp_path).files()


async def test_a_bucket_that_is_away_or_shut_is_told(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = free_ports()
    away = Bucket(BUCKET, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    shut = Bucket(BUCKET, s3.url)
    for storage in (away, shut):
        with pytest.raises(StorageError, match="cannot be used now"):
            await storage.write(uuid4(), stream(b"a"))
        with pytest.raises(StorageError, match="cannot be used now"):
            await storage.read(uuid4(), 0, 1)
