"""``/api/v1/products``: open to everybody to read, and to admins to change."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from orders.api.deps import (
    Catalogue,
    CatalogueAdmin,
    IfMatch,
    Limit,
    Offset,
    Session,
    optional_user,
)
from orders.core.etags import etag
from orders.core.openapi import ETAG, LOCATION, headers, problems
from orders.models import Product
from orders.schemas.product import ProductCreate, ProductRead, ProductUpdate
from orders.services import products

# Who shows no credentials is served; who shows invalid ones is told, wherever it is.
router = APIRouter(prefix="/products", tags=["products"], dependencies=[Depends(optional_user)])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=ProductRead,
    responses=headers(201, ETag=ETAG, Location=LOCATION) | problems(403, 409),
    summary="Put a product into the catalogue",
)
async def create_product(
    wanted: ProductCreate, _: CatalogueAdmin, session: Session, request: Request, response: Response
) -> Product:
    """Price in integer cents; stock says how many can be ordered."""
    product = await products.create(session, wanted)
    response.headers["location"] = f"{request.url.path}/{product.id}"
    response.headers["etag"] = etag(product.version)
    return product


@router.get("", response_model=list[ProductRead], summary="List the catalogue by SKU")
async def list_products(
    catalogue: Catalogue, limit: Limit = 50, offset: Offset = 0
) -> Sequence[ProductRead]:
    """Return one page; without credentials it may be some seconds old."""
    return await catalogue.list_page(limit=limit, offset=offset)


@router.get(
    "/{product_id}",
    response_model=ProductRead,
    responses=headers(200, ETag=ETAG) | problems(404),
    summary="Read a product",
)
async def read_product(product_id: UUID, catalogue: Catalogue, response: Response) -> ProductRead:
    """Return the product at its price of now; without credentials, of some seconds ago at most."""
    product = await catalogue.get(product_id)
    response.headers["etag"] = etag(product.version)
    return product


@router.patch(
    "/{product_id}",
    response_model=ProductRead,
    responses=headers(200, ETag=ETAG) | problems(403, 404, 412, 428),
    summary="Change a product",
)
async def update_product(
    product_id: UUID,
    wanted: ProductUpdate,
    _: CatalogueAdmin,
    session: Session,
    if_match: IfMatch,
    response: Response,
) -> Product:
    """Change what is named. An order that takes from the stock makes a new version, too."""
    product = await products.update(session, product_id, wanted, if_match)
    response.headers["etag"] = etag(product.version)
    return product


@router.delete(
    "/{product_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404, 409),
    summary="Delete a product",
)
async def delete_product(product_id: UUID, _: CatalogueAdmin, session: Session) -> None:
    """Take a product from the catalogue that no order names."""
    await products.delete(session, product_id)
