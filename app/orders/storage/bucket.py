"""A bucket of anything that speaks S3.

Credentials and region are the standard ones: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, a
web identity (as EKS gives to pods), or the instance's own; ``AWS_REGION``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from orders.storage.seam import ContentMissingError, StorageError

if TYPE_CHECKING:
    from obstore import BytesStream

log = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024  # bytes
_PART: Final = 8 * 1024 * 1024  # bytes, of a file that is sent in parts
_PATIENCE: Final = timedelta(seconds=15)


class Bucket:
    """Objects under ``files/`` and their key.

    What comes in is spooled to the temporary directory first: a file that is refused never gets
    near the bucket, and one that is stored can be sent again if the network drops it.

    Args:
        name: of the bucket.
        endpoint: the server's URL, unless it is Amazon's.
    """

    def __init__(self, name: str, endpoint: str | None) -> None:
        self._store = S3Store(
            name,
            prefix="files",
            **({"endpoint": endpoint} if endpoint else {}),  # type: ignore[arg-type]
            client_options={
                "allow_http": bool(endpoint) and str(endpoint).startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": _PATIENCE,
                "timeout": timedelta(hours=1),  # a client may read its file slowly
            },
            retry_config={"max_retries": 3, "retry_timeout": _PATIENCE},
        )

    async def write(self, key: UUID, content: AsyncIterator[bytes]) -> None:
        """Store the content; see the seam."""
        with TemporaryFile() as spool:
            async for chunk in content:
                await asyncio.to_thread(spool.write, chunk)
            spool.seek(0)
            with _told():
                await obstore.put_async(
                    self._store, key.hex, spool, chunk_size=_PART, max_concurrency=2
                )

    async def read(self, key: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Open a part of the content; see the seam."""
        with _told():
            found = await obstore.get_async(self._store, key.hex, options={"range": (start, stop)})
            return _chunks(found.stream(min_chunk_size=_CHUNK))

    async def delete(self, key: UUID) -> None:
        """Delete the content; see the seam."""
        try:
            with _told():
                await obstore.delete_async(self._store, key.hex)
        except ContentMissingError:
            pass


async def _chunks(stream: BytesStream) -> AsyncGenerator[bytes]:
    with _told():
        async for chunk in stream:
            yield bytes(chunk)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ContentMissingError from None
    except (BaseError, OSError, ValueError) as error:
        log.warning("the bucket of the files cannot be used: %s", str(error).partition("\n")[0])
        raise StorageError("the bucket of the files cannot be used now; try again") from error
