"""What a worker throws away by the clock: a bounded number of rows at a time, kind by kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.event_cursor import KEPT
from orders.models import IdempotencyKey, Ticket
from orders.repositories import events, expired, refresh_tokens, tasks

_MOST: Final = 5000
_KEEP_LOG: Final = timedelta(days=7)

Prune = Callable[[AsyncSession], Awaitable[int]]
"""Deletes some, inside the caller's transaction block, and returns how many."""

PRUNES: Final[Mapping[str, Prune]] = {
    "log of the queue": partial(tasks.prune, age=_KEEP_LOG),
    "refresh tokens": partial(refresh_tokens.prune, most=_MOST),
    "events": partial(events.prune, age=KEPT),
    "tickets": partial(expired.prune, table=Ticket, most=_MOST),
    "idempotency keys": partial(expired.prune, table=IdempotencyKey, most=_MOST),
}
"""By what they throw away. Any number of workers may do it at once."""
