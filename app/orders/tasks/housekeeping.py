"""Tells metrics how the queue stands, and does by the clock what nobody asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from orders.core.database import Sessions, transaction
from orders.repositories import tasks
from orders.repositories.tasks import Load
from orders.services import unpaid
from orders.tasks.cleaning import PRUNES

log = logging.getLogger(__name__)

_EVERY: Final = 15.0  # seconds
_MOST_ORDERS: Final = 500  # cancelled at a time

# Of the queue, not of the process: all workers say the same, so take the max of them.
_TASKS: Final = Gauge(
    "orders_queue_tasks", "Tasks in the queue: queued, running or dead.", ("task", "state")
)
_LATE: Final = Gauge(
    "orders_queue_late_seconds",
    "How long the oldest task of a kind could have run by now.",
    ("task",),
)
_STATES: Final = {"queued": "queued", "picked": "running", "failed": "dead"}


async def keep_house(sessions: Sessions, unpaid_age: timedelta) -> None:
    """Do all of it every quarter of a minute, until cancelled."""
    while True:
        try:
            async with sessions() as session:
                show(await tasks.load(session))
        except (SQLAlchemyError, OSError) as error:
            log.warning("the state of the queue cannot be read (%s)", type(error).__name__)
        await clean(sessions)
        await cancel_unpaid(sessions, unpaid_age)
        await asyncio.sleep(_EVERY)


async def clean(sessions: Sessions) -> None:
    """Throw away some of each kind; one that cannot be is no reason to keep the others."""
    for name, prune in PRUNES.items():
        try:
            async with sessions() as session, transaction(session):
                await prune(session)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the %s cannot be pruned (%s)", name, type(error).__name__)


async def cancel_unpaid(sessions: Sessions, age: timedelta) -> None:
    """Cancel orders that were placed longer ago and are not paid for, each by itself."""
    try:
        for _ in range(_MOST_ORDERS):
            async with sessions() as session, transaction(session):
                if not await unpaid.cancel_one(session, age):
                    break
    except (SQLAlchemyError, OSError) as error:
        log.warning("unpaid orders cannot be cancelled now (%s)", type(error).__name__)


def show(loads: Sequence[Load]) -> None:
    """Set the metrics; kinds and states that have gone are gone there as well."""
    _TASKS.clear()
    _LATE.clear()
    for each in loads:
        _TASKS.labels(each.name, _STATES.get(each.status, each.status)).set(each.count)
        if each.status == "queued":
            _LATE.labels(each.name).set(max(0.0, each.late))
