"""A directory of a volume that all replicas mount."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from orders.storage.seam import ContentMissingError, StorageError, StorageFullError

log = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024  # bytes
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Directory:
    """Files in folders of two letters each, so that no folder holds more than some thousands.

    Content is written beside its place, brought to the disk, and then renamed: under its own name
    it is whole, even after the machine has lost its power.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, key: UUID, content: AsyncIterator[bytes]) -> None:
        """Store the content; see the seam."""
        place, beside = self._places(key)
        with _told():
            file = await asyncio.to_thread(_create, self._root, beside)
            try:
                async for chunk in _gathered(content):
                    await asyncio.to_thread(_write, file, chunk)
                await asyncio.to_thread(_settle, file, beside, place)
            except BaseException:
                # Not in a thread that would have to be waited for: this may be a cancellation.
                file.close()
                with suppress(OSError):
                    beside.unlink()
                raise

    async def read(self, key: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Open a part of the content; see the seam."""
        place, _ = self._places(key)
        with _told():
            try:
                file = await asyncio.to_thread(_open_at, place, start)
            except FileNotFoundError:
                raise ContentMissingError from None
            return _chunks(file, stop - start)

    async def delete(self, key: UUID) -> None:
        """Delete the content; see the seam."""
        with _told():
            await asyncio.to_thread(_unlink, *self._places(key))

    def _places(self, key: UUID) -> tuple[Path, Path]:
        folder = self._root / key.hex[:2] / key.hex[2:4]
        return folder / key.hex, folder / f"{key.hex}.part"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("the directory of the files cannot be used: %s", error.strerror)
        if error.errno in _NO_ROOM:
            raise StorageFullError("there is no room left for files; tell who runs this") from error
        raise StorageError("the directory of the files cannot be used now; try again") from error


def _create(root: Path, path: Path) -> BinaryIO:
    missing = [each for each in (path.parent, path.parent.parent, root) if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync(each.parent)  # or the folder itself could be gone after a loss of power
    return path.open("xb", buffering=0)


def _write(file: BinaryIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:  # a disk that gets full takes a part, and refuses only what comes after it
        left = left[file.write(left) :]


def _settle(file: BinaryIO, beside: Path, place: Path) -> None:
    with file:
        os.fsync(file.fileno())
    beside.rename(place)
    _sync(place.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _open_at(path: Path, start: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    file.seek(start)
    return file


async def _chunks(file: BinaryIO, left: int) -> AsyncGenerator[bytes]:
    with file:
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(left, _CHUNK))
            if not chunk:
                raise StorageError("the file is shorter than it was")
            left -= len(chunk)
            yield chunk


async def _gathered(content: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Join small chunks: each costs a thread's attention."""
    gathered = bytearray()
    async for chunk in content:
        gathered += chunk
        if len(gathered) >= _CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
