"""Who asks, and what they may do: pure, on plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What a user is to the shop."""

    CUSTOMER = "customer"
    ADMIN = "admin"


class Scope(StrEnum):
    """What an API key may be good for; a person who has signed in has them all."""

    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    PRODUCTS_WRITE = "products:write"
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"


@dataclass(frozen=True, slots=True)
class Principal:
    """The user behind a request; no database object, so it outlives every transaction."""

    user_id: UUID
    role: Role
    scopes: frozenset[Scope] = frozenset(Scope)
    api_key_id: UUID | None = None
    """The key that spoke for the user; ``None`` if the user did."""
    token_version: int = 0
    """The user's when they signed in; of no meaning if a key spoke for them."""

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed that is allowed to anybody."""
        return self.role is Role.ADMIN

    def may_act_for(self, owner: UUID) -> bool:
        """Whether what belongs to ``owner`` is the principal's to read and change."""
        return self.is_admin or self.user_id == owner
