"""What the Orders service is compared with: the same tables, with nothing around them.

``bare`` reads an order by asyncpg and Starlette alone, for anybody. ``plain`` places one as a
FastAPI service with SQLAlchemy does that has a token, prices and a stock to look after, and no
hooks.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orders.models import Order, OrderLine, Product, User

CONNECTIONS = 10  # of the pool, as the service has by default
_ORDER = "SELECT id, user_id, status, total_cents, version, created_at FROM orders WHERE id = $1"
_LINES = (
    "SELECT product_id, quantity, unit_price_cents FROM order_lines "
    "WHERE order_id = $1 ORDER BY product_id"
)


def bare() -> Starlette:
    """Two queries and a JSON document."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        url = os.environ["DATABASE_URL"]
        async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
            app.state.pool = pool
            yield

    async def read(request: Request) -> JSONResponse:
        order_id = UUID(request.path_params["order_id"])
        async with request.app.state.pool.acquire() as connection:
            order = await connection.fetchrow(_ORDER, order_id)
            lines = await connection.fetch(_LINES, order_id)
        return JSONResponse(
            {
                "id": str(order["id"]),
                "user_id": str(order["user_id"]),
                "status": order["status"],
                "total_cents": order["total_cents"],
                "version": order["version"],
                "created_at": order["created_at"].isoformat(),
                "lines": [{**line, "product_id": str(line["product_id"])} for line in lines],
            }
        )

    return Starlette(routes=[Route("/api/v1/orders/{order_id}", read)], lifespan=lifespan)


class Line(BaseModel):
    """One product to order, or ordered."""

    model_config = ConfigDict(from_attributes=True)

    product_id: UUID
    quantity: int


class PricedLine(Line):
    """One product that was ordered."""

    unit_price_cents: int


class NewOrder(BaseModel):
    """An order to place."""

    lines: list[Line]


class PlacedOrder(BaseModel):
    """An order that was placed."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID
    status: str
    total_cents: int
    version: int
    created_at: datetime
    lines: list[PricedLine]


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One session for the request."""
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(session: Session, authorization: Annotated[str, Header()]) -> User:
    """Whose token it is."""
    claims: dict[str, Any] = jwt.decode(
        authorization.removeprefix("Bearer "),
        os.environ["APP_JWT_SECRET"],
        algorithms=["HS256"],
        audience="orders",
    )
    user = await session.get(User, UUID(claims["sub"]))
    if user is None:
        raise HTTPException(401)
    return user


async def place(
    wanted: NewOrder, user: Annotated[User, Depends(get_user)], session: Session
) -> Order:
    """Take the lines from the stock and store the order."""
    quantities = {line.product_id: line.quantity for line in wanted.lines}
    query = select(Product).where(Product.id.in_(quantities)).order_by(Product.id)
    products = (await session.scalars(query.with_for_update())).all()
    if len(products) < len(quantities):
        raise HTTPException(404)
    order = Order(user_id=user.id, total_cents=0, lines=[])
    for product in products:
        quantity = quantities[product.id]
        if product.stock < quantity:
            raise HTTPException(409)
        product.stock -= quantity
        order.total_cents += quantity * product.price_cents
        price = product.price_cents
        order.lines.append(
            OrderLine(product_id=product.id, quantity=quantity, unit_price_cents=price)
        )
    session.add(order)
    await session.commit()
    return order


def plain() -> FastAPI:
    """An order of several lines, in one transaction."""
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0)
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.add_api_route(
        "/api/v1/orders", place, methods=["POST"], status_code=201, response_model=PlacedOrder
    )
    return app
