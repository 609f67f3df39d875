"""``/``: a page that shows orders as they come; three static files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)

_FILES: Final = Path(__file__).resolve().parents[1] / "page"
_HEADERS: Final = {
    # Nothing but the page's own files and the API of its own host: an injected script, style or
    # form has nowhere to come from and nowhere to send what it has read.
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src data:",  # an icon that is none: else the browser asks for one
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "cache-control": "no-cache",  # kept, and asked about each time: by ETag
}


@router.api_route("/", methods=["GET", "HEAD"], response_class=FileResponse)
async def read_page() -> FileResponse:
    """Return the page."""
    return FileResponse(_FILES / "index.html", headers=_HEADERS)


@router.get("/page/live.js", response_class=FileResponse)
async def read_script() -> FileResponse:
    """Return its script."""
    return FileResponse(_FILES / "live.js", headers=_HEADERS, media_type="text/javascript")


@router.get("/page/style.css", response_class=FileResponse)
async def read_style() -> FileResponse:
    """Return its style."""
    return FileResponse(_FILES / "style.css", headers=_HEADERS)
