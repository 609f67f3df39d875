"""Pages of other origins that may use the API (CORS)."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from orders.core.errors import ProblemResponse

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS: Final = (
    "Authorization",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-API-Key",
    "X-Refresh-Mode",
    "X-Request-ID",
    "traceparent",
    "tracestate",
)
RESPONSE_HEADERS: Final = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Request-ID",
)


class Cors(CORSMiddleware):
    """Starlette's, whose refusals are problems here as all others are."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer whether a request may be sent."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        headers = {
            name: value
            for name, value in response.headers.items()
            if name not in {"content-length", "content-type"}
        }
        detail = (
            f"{bytes(response.body).decode()}: a page of this origin may not send such a request "
            "(APP_BROWSER_ORIGINS names the origins that may)"
        )
        return ProblemResponse(response.status_code, detail, headers=headers)
