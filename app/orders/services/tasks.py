"""The rules about dead tasks: an admin looks at them, brings them back, or lets them go."""

from __future__ import annotations

from collections.abc import Sequence

from pgqueuer.types import JobId
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.core.errors import NotFoundError
from orders.repositories import tasks
from orders.repositories.tasks import Dead
from orders.tasks.queue import queue_of


async def list_dead(
    session: AsyncSession, *, limit: int, offset: int
) -> tuple[Sequence[Dead], int]:
    """Read a page of the dead, the latest first, and how many there are."""
    return await tasks.list_dead(session, limit=limit, offset=offset)


async def retry(session: AsyncSession, task_id: int) -> None:
    """Put a dead task back into the queue, with all its attempts before it.

    Raises:
        NotFoundError: there is no dead task of that id.
    """
    async with transaction(session):
        if not await tasks.is_dead(session, task_id):
            raise NotFoundError(f"there is no dead task {task_id}")
        await queue_of(session).requeue_jobs([JobId(task_id)])


async def discard(session: AsyncSession, task_id: int) -> None:
    """Delete a dead task.

    Raises:
        NotFoundError: there is no dead task of that id.
    """
    async with transaction(session):
        if not await tasks.discard(session, task_id):
            raise NotFoundError(f"there is no dead task {task_id}")
