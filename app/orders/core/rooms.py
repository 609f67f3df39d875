"""Who hears of what: pure."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from orders.core.access import Principal


@dataclass(frozen=True, slots=True)
class Room:
    """What a consumer listens to; without an order and an owner, everything."""

    order_id: UUID | None = None
    owner: UUID | None = None


def rooms_of(order_id: UUID, owner: UUID | None) -> list[Room]:
    """List the rooms that an event of an order is told in."""
    rooms = [Room(), Room(order_id=order_id)]
    return [*rooms, Room(owner=owner)] if owner else rooms


def room_for(principal: Principal, order_id: UUID | None) -> Room:
    """Return the room that a principal asks for: one order, which they may see, or all of theirs.

    An admin's are everybody's.
    """
    if order_id:
        return Room(order_id=order_id)
    return Room() if principal.is_admin else Room(owner=principal.user_id)
