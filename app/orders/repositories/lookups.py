"""What nearly every request asks for, by its key."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from orders.core.lookup import Lookup
from orders.core.rows import Lease, Rows
from orders.repositories import api_keys, orders, users
from orders.repositories.api_keys import Good
from orders.repositories.users import Standing
from orders.schemas.order import OrderRead


class Lookups:
    """One for each kind of thing.

    Args:
        lease: the connections to ask on.
    """

    def __init__(self, lease: Lease) -> None:
        rows = Rows(lease)
        self.standing: Lookup[UUID, Standing] = Lookup("users", partial(users.look_up, rows))
        self.api_key: Lookup[str, Good] = Lookup("api_keys", partial(api_keys.look_up, rows))
        self.order: Lookup[UUID, OrderRead] = Lookup("orders", partial(orders.look_up, rows))
