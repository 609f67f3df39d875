"""Applications in an application: each FastAPI of its own, under a prefix."""

from __future__ import annotations

import logging

from fastapi import APIRouter, FastAPI

from tidegate import Tidegate

router = APIRouter(prefix="/items")


@router.get("/{item_id}")
async def read_item(item_id: int) -> int:
    """Log, so that the line can be compared."""
    logging.getLogger("app").info("read %d", item_id)
    return item_id


@router.get("/broken/{item_id}")
async def fail(item_id: int) -> None:
    """Fail below the mount."""
    raise ValueError(f"no {item_id}")


app = FastAPI()
sub = FastAPI()
deeper = FastAPI()
for each in (app, sub, deeper):
    each.include_router(router)
sub.mount("/deeper", deeper)
app.mount("/sub", sub)
app.mount("/tenants/{tenant}", sub)
Tidegate(app)
