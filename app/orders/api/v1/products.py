"""``/api/v1/products``."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import APIRouter

from orders.api.deps import Limit, Offset, Session
from orders.core.errors import Problem
from orders.models import Product
from orders.schemas.product import ProductCreate, ProductRead
from orders.services import products

router = APIRouter(prefix="/products", tags=["products"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=ProductRead,
    responses={409: {"model": Problem, "description": "The catalogue already has that SKU."}},
    summary="Put a product into the catalogue",
)
async def create_product(wanted: ProductCreate, session: Session) -> Product:
    """Price in integer cents; stock says how many can be ordered."""
    return await products.create(session, wanted)


@router.get("", response_model=list[ProductRead], summary="List the catalogue by SKU")
async def list_products(
    session: Session, limit: Limit = 50, offset: Offset = 0
) -> Sequence[Product]:
    """Return one page."""
    return await products.list_page(session, limit=limit, offset=offset)
