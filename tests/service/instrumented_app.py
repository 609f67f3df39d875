"""An application that uses OpenTelemetry's instrumentation itself, in each way there is."""

from __future__ import annotations

import os

import fastapi
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from tidegate import Tidegate

WIRING = os.environ["WIRING"]

if WIRING == "everything":
    FastAPIInstrumentor().instrument()
app = fastapi.FastAPI()
if WIRING == "middleware":
    app.add_middleware(OpenTelemetryMiddleware)
if WIRING == "before":
    FastAPIInstrumentor.instrument_app(app)


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> int:
    """Answer."""
    return item_id


@app.get("/broken/{item_id}")
async def fail(item_id: int) -> None:
    """Fail."""
    raise ValueError(f"no {item_id}")


Tidegate(app)
if WIRING == "after":
    FastAPIInstrumentor.instrument_app(app)
