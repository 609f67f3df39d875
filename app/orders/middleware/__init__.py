"""Middleware, pure ASGI throughout, in the one order that makes sense.

From the outside in; what is refused further out costs less, and every refusal still gets what is
outside of it:

1. Tidegate's hook and Starlette's last error page, which no application can be outside of: ids,
   metrics and the access line of every answer, also of each refusal below.
2. ``UnreadBody``: ends the connection of a request that is answered before its body was read,
   whoever answers.
3. ``ServerTiming``: measures all that follows.
4. ``SecurityHeaders``: on refusals as well.
5. ``TrustedHosts``, if any are named: before anything is done for a forged one.
6. ``Cors``: outside of 413, 429 and 500, which a page of another origin could not read otherwise;
   it answers preflights itself, so these are not counted by the next.
7. ``RateLimit``: before a body is read, and before the database is asked who it is.
8. ``BodyLimit``: counts what any reader inside takes from the stream.
9. gzip, for answers of 1 kB and more; event streams, ranges, and what is compressed are left.
10. ``Faults``: the 500s, so that they pass through all of the above.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from orders.core.rate_counts import RateCounts
from orders.core.settings import OrdersSettings
from orders.middleware.body_limit import BodyLimit
from orders.middleware.cors import METHODS, REQUEST_HEADERS, RESPONSE_HEADERS, Cors
from orders.middleware.faults import Faults
from orders.middleware.rate_limit import RateLimit
from orders.middleware.security_headers import SecurityHeaders
from orders.middleware.timing import ServerTiming
from orders.middleware.trusted_hosts import TrustedHosts
from orders.middleware.unread_body import UnreadBody

BODIES: Final[dict[str, int | None]] = {"/api/v1/auth": 16 * 1024, "/api/v1/files": None}
"""Where bodies are smaller, since nobody has signed in yet; and where routes count them themselves,
since they take larger ones."""


def install(app: FastAPI, settings: OrdersSettings, counts: RateCounts) -> None:
    """Put the middleware around the application."""
    # Each is put around those before it: the innermost comes first.
    app.add_middleware(Faults)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(BodyLimit, most=settings.body_bytes, elsewhere=BODIES)
    if settings.rate_limit or settings.login_rate_limit:
        app.add_middleware(
            RateLimit, counts=counts, rate=settings.rate_limit, login=settings.login_rate_limit
        )
    if settings.browser_origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.browser_origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
            allow_credentials=True,
        )
    if settings.trusted_hosts:
        app.add_middleware(TrustedHosts, hosts=settings.trusted_hosts)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(ServerTiming)
    app.add_middleware(UnreadBody)
