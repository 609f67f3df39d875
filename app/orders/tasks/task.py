"""What a task is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from orders.core.database import Sessions
from orders.outbound.payment_provider import PaymentProvider
from orders.tasks.retry import Retry

A = TypeVar("A", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Resources:
    """What tasks work with; opened once for a worker."""

    sessions: Sessions
    payments: PaymentProvider | None


class NotYetError(Exception):
    """Raised by a task that is to be tried again though nothing is wrong with it.

    Not logged as an error; its text is stored, and shown to admins.
    """


@dataclass(frozen=True, slots=True)
class Task(Generic[A]):
    """One kind of task. It may run twice, and says itself what makes that harmless."""

    name: str
    arguments: type[A]
    run: Callable[[Resources, A], Awaitable[None]]
    retry: Retry
    bury: Callable[[Resources, A], Awaitable[None]] | None = None
    """Called when it is dead, to tell whoever waits for it."""
