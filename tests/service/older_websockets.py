"""The application `ending`, served with the older of uvicorn's two WebSocket protocols."""

from __future__ import annotations

from uvicorn.config import WS_PROTOCOLS

from tests.service.apps import ending as ending

WS_PROTOCOLS["auto"] = WS_PROTOCOLS["websockets"]
