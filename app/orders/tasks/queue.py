"""Puts tasks into the queue, as part of the caller's transaction."""

from __future__ import annotations

from datetime import timedelta

from pgqueuer.queries import Queries
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from tidegate import carry


class _SessionDriver:
    """Lets the library's statements run on a session.

    Through SQLAlchemy and not on the driver's own connection below it: that one is in no
    transaction before the session's first statement, and knows nothing of a pooler.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Return the rows of a statement."""
        connection = await self._session.connection()
        result = await connection.exec_driver_sql(query, args)
        return [dict(row) for row in result.mappings()]

    async def execute(self, query: str, *args: object) -> str:
        """Execute a statement."""
        connection = await self._session.connection()
        await connection.exec_driver_sql(query, args)
        return ""


def queue_of(session: AsyncSession) -> Queries:
    """Return the queue as the session's transaction sees it and changes it."""
    return Queries(_SessionDriver(session))  # type: ignore[arg-type]  # nobody listens by it


async def enqueue(
    session: AsyncSession, name: str, arguments: BaseModel, *, after: timedelta = timedelta(0)
) -> None:
    """Order a task: it runs if the transaction commits, and not before.

    Args:
        session: inside a transaction block.
        name: of the task, as `orders.tasks.catalogue` has it.
        arguments: ids, not data: the task reads what is true when it runs.
        after: at the earliest.
    """
    await queue_of(session).enqueue(
        name, arguments.model_dump_json().encode(), execute_after=after, headers=carry()
    )
