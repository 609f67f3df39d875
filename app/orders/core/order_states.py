"""The states of an order, and who moves it from one to the next: a table, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orders.core.errors import ConflictError, ForbiddenError


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING = "pending"
    PAYMENT_PENDING = "payment_pending"
    PAYMENT_FAILED = "payment_failed"
    CONFIRMED = "confirmed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class Actor(StrEnum):
    """Who moves an order on."""

    CUSTOMER = "customer"
    SHOP = "admin"
    PAYMENT = "payment"
    """What the payment provider has answered, whoever is signed in."""
    CLOCK = "clock"
    """The time that has passed since the order was placed."""


_PEOPLE: Final = frozenset({Actor.CUSTOMER, Actor.SHOP})
_PEOPLE_AND_TIME: Final = _PEOPLE | {Actor.CLOCK}
_SHOP: Final = frozenset({Actor.SHOP})
_PAYMENT: Final = frozenset({Actor.PAYMENT})

TRANSITIONS: Final[Mapping[tuple[OrderStatus, OrderStatus], frozenset[Actor]]] = {
    (OrderStatus.PENDING, OrderStatus.PAYMENT_PENDING): _PAYMENT,
    (OrderStatus.PENDING, OrderStatus.CONFIRMED): _PEOPLE,
    (OrderStatus.PENDING, OrderStatus.CANCELLED): _PEOPLE_AND_TIME,
    # Until the provider has answered nobody knows what a cancellation would have to undo.
    (OrderStatus.PAYMENT_PENDING, OrderStatus.CONFIRMED): _PAYMENT,
    (OrderStatus.PAYMENT_PENDING, OrderStatus.PAYMENT_FAILED): _PAYMENT,
    (OrderStatus.PAYMENT_FAILED, OrderStatus.PAYMENT_PENDING): _PAYMENT,
    (OrderStatus.PAYMENT_FAILED, OrderStatus.CANCELLED): _PEOPLE_AND_TIME,
    (OrderStatus.CONFIRMED, OrderStatus.CANCELLED): _PEOPLE,
    (OrderStatus.CONFIRMED, OrderStatus.SHIPPED): _SHOP,
    (OrderStatus.SHIPPED, OrderStatus.DELIVERED): _SHOP,
}
"""From where to where, and whose it is to decide. What is not here does not happen."""


def require_transition(now: OrderStatus, wanted: OrderStatus, actor: Actor) -> None:
    """Pass what the table allows.

    Raises:
        ConflictError: no order goes from the one to the other.
        ForbiddenError: orders do, but it is not the actor's to decide.
    """
    actors = TRANSITIONS.get((now, wanted))
    if actors is None:
        ways = " or ".join(to for start, to in TRANSITIONS if start is now) or "nothing else"
        raise ConflictError(f"the order is {now}: it can become {ways}, not {wanted}")
    if actor not in actors:
        raise ForbiddenError(f"{' or '.join(sorted(actors))} decides when an order is {wanted}")
