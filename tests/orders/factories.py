"""Makes what a test needs to be there, with what it says and nothing left to chance."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core import passwords
from orders.core.access import Principal, Role
from orders.models import Order, OrderLine, Product, User
from orders.repositories import users

PASSWORD = "correct horse battery staple"


def password_hash() -> str:
    """Of ``PASSWORD``."""
    return passwords.HASHER.hash(PASSWORD)


async def make_user(session: AsyncSession, **values: Any) -> User:  # noqa: ANN401 - any column
    """Store a user; its password is ``PASSWORD``."""
    wanted = {
        "email": f"{uuid4().hex}@example.org",
        "name": "Ann Example",
        "password_hash": password_hash(),
        "role": Role.CUSTOMER,
        **values,
    }
    user = User(**wanted)
    await users.add(session, user)
    await session.commit()
    return user


def principal_of(user: User) -> Principal:
    """The user, as a request of theirs knows them."""
    return Principal(user.id, Role(user.role), token_version=user.token_version)


async def make_product(session: AsyncSession, **values: Any) -> Product:  # noqa: ANN401 - any column
    """Store a product: ten pieces at 450 cents, unless told otherwise."""
    wanted = {"sku": uuid4().hex, "name": "Tea", "price_cents": 450, "stock": 10, **values}
    product = Product(**wanted)
    session.add(product)
    await session.commit()
    return product


async def make_order(
    session: AsyncSession,
    user: User,
    *products: Product,
    **values: Any,  # noqa: ANN401 - any column
) -> Order:
    """Store an order of one piece each; nothing is taken from the stock."""
    lines = [
        OrderLine(product_id=product.id, quantity=1, unit_price_cents=product.price_cents)
        for product in sorted(products, key=lambda product: product.id)
    ]
    total = sum(product.price_cents for product in products)
    order = Order(**{"user_id": user.id, "total_cents": total, "lines": lines, **values})
    session.add(order)
    await session.commit()
    return order


def api_key(*scopes: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """The body that makes a key of a user of ``make_user``."""
    return {"name": "Reports", "scopes": [*scopes], "current_password": PASSWORD, **more}


def lines(*wanted: tuple[Product, int]) -> dict[str, Any]:
    """The body of an order."""
    return {
        "lines": [{"product_id": str(product.id), "quantity": count} for product, count in wanted]
    }
