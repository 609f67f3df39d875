"""How often a client may ask.

A client is a user where the request's credentials are known to be good, else the network of its
address. "Known to be good" is learnt: once a request with them has been answered for a user, they
stand for that user here. So a token is verified where it always is, and nowhere twice; and
made-up tokens, each another one, count for the address that sends them.

The address is the one the server sees. Behind a proxy that is the proxy's, unless the server is
told to believe it (``FORWARDED_ALLOW_IPS``, of uvicorn and gunicorn alike).
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orders.core.errors import ProblemResponse
from orders.core.rate_counts import RateCounts, Standing
from orders.core.rates import Rate, network_of
from tidegate import current_request

_CREDENTIALS: Final = (b"authorization", b"x-api-key")
_HASHING: Final = ("/api/v1/auth/login", "/api/v1/auth/register")
"""Where passwords are tried, and each try costs the service much."""
_MOST_KNOWN: Final = 10_000


class RateLimit:
    """Counts requests and refuses those above a rate with 429.

    The answers' headers are those of draft-ietf-httpapi-ratelimit-headers-11: ``RateLimit-Policy``
    (``q`` requests in ``w`` seconds) and ``RateLimit`` (``r`` are left, for ``t`` seconds).

    Args:
        app: what is inside.
        counts: where requests are counted.
        rate: for all requests; ``None`` for no limit.
        login: for trying passwords, by address; ``None`` for no limit.
    """

    def __init__(
        self, app: ASGIApp, counts: RateCounts, rate: Rate | None, login: Rate | None
    ) -> None:
        self._app = app
        self._counts = counts
        self._rate = rate
        self._login = login
        self._known: OrderedDict[bytes, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        hashing = scope["path"] in _HASHING and scope.get("method") == "POST"
        rate = self._login if hashing else self._rate
        if rate is None:
            await self._app(scope, receive, send)
            return
        address = network_of(scope["client"][0]) if scope.get("client") else ""
        if hashing:  # never by user: whose password is tried is what has to be found out
            await self._count("login", rate, address, scope, receive, send)
            return
        shown = _fingerprint(scope)
        who = self._known.get(shown, address) if shown else address
        await self._count("default", rate, who, scope, receive, send)
        if shown:
            self._learn(shown)

    async def _count(
        self, policy: str, rate: Rate, who: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        standing = await self._counts.hit(policy, rate, who)
        told = _told(policy, rate, standing)
        if not standing.allowed:
            detail = f"more than {rate} requests; try again in {standing.reset} s"
            headers = {name.decode(): value.decode() for name, value in told}
            refusal = ProblemResponse(
                HTTPStatus.TOO_MANY_REQUESTS,
                detail,
                headers={"retry-after": str(standing.reset)} | headers,
            )
            await refusal(scope, receive, send)
            return

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *told]}
            await send(message)

        await self._app(scope, receive, send_told)

    def _learn(self, shown: bytes) -> None:
        """Note whose the credentials are, or that they are nobody's any more."""
        request = current_request()
        if request is None or request.user_id is None:
            self._known.pop(shown, None)
            return
        self._known[shown] = f"user:{request.user_id}"
        self._known.move_to_end(shown)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)


def _fingerprint(scope: Scope) -> bytes:
    """Return what stands for the request's credentials; nothing if it shows none."""
    shown = b"\0".join(value for name, value in scope["headers"] if name in _CREDENTIALS)
    return sha256(shown).digest() if shown else b""


def _told(policy: str, rate: Rate, standing: Standing) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (policy.encode(), rate.count, rate.seconds)),
        (b"ratelimit", b'"%s";r=%d;t=%d' % (policy.encode(), standing.remaining, standing.reset)),
    )
