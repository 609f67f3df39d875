"""``/api/docs``: the API, to read and to try."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_CDN: Final = "https://cdn.jsdelivr.net"  # where FastAPI's page has Swagger UI from
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@router.get("/api/docs", response_class=HTMLResponse)
async def read_docs(request: Request) -> HTMLResponse:
    """Return Swagger UI."""
    return _page(request.app.title, request.app.openapi_url)


@cache
def _page(title: str, openapi_url: str) -> HTMLResponse:
    page = get_swagger_ui_html(openapi_url=openapi_url, title=title)
    hashes = " ".join(_source(script) for script in _INLINE.findall(bytes(page.body).decode()))
    page.headers["content-security-policy"] = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_CDN} {hashes}",
            f"style-src {_CDN} 'unsafe-inline'",  # Swagger UI styles its elements one by one
            "img-src 'self' data: https://fastapi.tiangolo.com",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return page


def _source(script: str) -> str:
    """Name one inline script, so that no other can run."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
