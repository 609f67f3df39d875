"""Clears the storage of what nobody will ask for: beside the service, which can reach it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from orders.core.database import Sessions
from orders.services import files
from orders.storage.seam import Storage, StorageError

log = logging.getLogger(__name__)

_EVERY: Final = 600.0  # seconds, more or less: replicas are not to come all at once


@asynccontextmanager
async def clearing(sessions: Sessions, storage: Storage | None) -> AsyncIterator[None]:
    """Clear files now and then while the block runs; two who do that are in nobody's way."""
    if storage is None:
        yield
        return
    task = asyncio.create_task(_clear(sessions, storage))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _clear(sessions: Sessions, storage: Storage) -> None:
    while True:
        await asyncio.sleep(_EVERY * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        try:
            async with sessions() as session:
                while await files.clear(session, storage):
                    pass
        except (SQLAlchemyError, StorageError, OSError) as error:
            log.warning("files cannot be cleared now (%s)", type(error).__name__)
