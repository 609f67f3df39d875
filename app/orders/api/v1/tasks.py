"""``/api/v1/tasks``: what the queue has given up, for admins."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path

from orders.api.deps import Admin, Limit, Offset, Session
from orders.core.openapi import problems
from orders.schemas.page import Page
from orders.schemas.task import DeadTaskRead
from orders.services import tasks

router = APIRouter(prefix="/tasks/dead", tags=["tasks"])

TaskId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get(
    "",
    response_model=Page[DeadTaskRead],
    responses=problems(403),
    summary="List tasks that are not tried any more",
)
async def list_dead_tasks(
    _: Admin, session: Session, limit: Limit = 50, offset: Offset = 0
) -> dict[str, Any]:
    """Return one page, the latest first."""
    items, total = await tasks.list_dead(session, limit=limit, offset=offset)
    return {"items": items, "total": total}


@router.post(
    "/{task_id}/retry",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404),
    summary="Try a dead task again",
)
async def retry_dead_task(task_id: TaskId, _: Admin, session: Session) -> None:
    """Put it back into the queue, with all its attempts before it."""
    await tasks.retry(session, task_id)


@router.delete(
    "/{task_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404),
    summary="Discard a dead task",
)
async def discard_dead_task(task_id: TaskId, _: Admin, session: Session) -> None:
    """Forget it: what it was to do is not done."""
    await tasks.discard(session, task_id)
