"""SQL for what the library of the queue does not tell: attempts, the dead, and how much waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# A start counts since the task was last brought back from the dead.
_STARTS: Final = text("""
    SELECT count(*) FROM pgqueuer_log WHERE job_id = :id AND status = 'picked' AND id > coalesce(
        (SELECT max(id) FROM pgqueuer_log WHERE job_id = :id AND status = 'failed'), 0)
""")

_DEAD: Final = text("""
    SELECT task.id, task.entrypoint AS name, convert_from(task.payload, 'UTF8') AS arguments,
        task.created AS ordered_at, task.updated AS died_at,
        (SELECT traceback ->> 'exception_message' FROM pgqueuer_log
            WHERE job_id = task.id AND status = 'failed' ORDER BY id DESC LIMIT 1) AS reason,
        count(*) OVER () AS total
    FROM pgqueuer AS task WHERE status = 'failed'
    ORDER BY task.updated DESC, task.id DESC LIMIT :limit OFFSET :offset
""")

_DISCARD: Final = text("DELETE FROM pgqueuer WHERE id = :id AND status = 'failed' RETURNING id")

_LOAD: Final = text("""
    SELECT entrypoint AS name, status::text, count(*) AS count,
        coalesce(extract(epoch FROM max(now() - execute_after)
            FILTER (WHERE status = 'queued')), 0)::float AS late
    FROM pgqueuer GROUP BY entrypoint, status
""")

# Of tasks that are still there all is kept: it counts their attempts.
_PRUNE: Final = text("""
    DELETE FROM pgqueuer_log WHERE id IN (
        SELECT id FROM pgqueuer_log AS old WHERE created < now() - CAST(:age AS interval)
            AND NOT EXISTS (SELECT FROM pgqueuer WHERE pgqueuer.id = old.job_id)
        ORDER BY created LIMIT 5000 FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class Load:
    """How many tasks of a kind are in a state."""

    name: str
    status: str
    count: int
    late: float
    """Seconds that the oldest of them could have run by now; 0 if none waits."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A task that is not tried any more."""

    id: int
    name: str
    arguments: str
    ordered_at: datetime
    died_at: datetime
    reason: str | None


async def count_starts(session: AsyncSession, task_id: int) -> int:
    """Count how often a worker has begun the task, this time included."""
    return int(await session.scalar(_STARTS, {"id": task_id}) or 0)


async def list_dead(
    session: AsyncSession, *, limit: int, offset: int
) -> tuple[Sequence[Dead], int]:
    """Read a page of the dead, the latest first, and how many there are."""
    rows = (await session.execute(_DEAD, {"limit": limit, "offset": offset})).all()
    return [Dead(*row[:-1]) for row in rows], rows[0].total if rows else 0


async def is_dead(session: AsyncSession, task_id: int) -> bool:
    """Tell whether there is a dead task of that id; it stays so until the transaction ends."""
    query = text("SELECT id FROM pgqueuer WHERE id = :id AND status = 'failed' FOR UPDATE")
    return (await session.execute(query, {"id": task_id})).first() is not None


async def discard(session: AsyncSession, task_id: int) -> bool:
    """Delete a dead task; return whether there was one."""
    return (await session.execute(_DISCARD, {"id": task_id})).first() is not None


async def load(session: AsyncSession) -> Sequence[Load]:
    """Read what waits, runs and is dead."""
    return [Load(*row) for row in await session.execute(_LOAD)]


async def prune(session: AsyncSession, age: timedelta) -> int:
    """Delete what is logged of tasks long gone, at most 5000 rows; return how many."""
    result: Any = await session.execute(_PRUNE, {"age": age})
    return int(result.rowcount)
