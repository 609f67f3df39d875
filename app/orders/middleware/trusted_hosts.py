"""Which names the service answers to: a forged `Host` must not end up in a link or a cache."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from orders.core.errors import ProblemResponse


class TrustedHosts:
    """Refuses requests and WebSockets for other hosts with 400.

    Args:
        app: what is inside.
        hosts: in lower case, as ``shop.example.org``; ``*.example.org`` is all below.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        named = [value for name, value in scope["headers"] if name == b"host"]
        host = named[0].decode("latin-1") if len(named) == 1 else ""
        if is_trusted(host, self._hosts):
            await self._app(scope, receive, send)
            return
        detail = "the service does not answer to this Host; APP_TRUSTED_HOSTS names those it does"
        await ProblemResponse(HTTPStatus.BAD_REQUEST, detail)(scope, receive, send)


def is_trusted(host: str, hosts: Collection[str]) -> bool:
    """Decide whether a ``Host`` header, with or without a port, names one of the hosts."""
    name = host.lower()
    if not name.endswith("]"):  # an IPv6 address without a port
        head, colon, port = name.rpartition(":")
        if colon:
            if not (port.isascii() and port.isdigit()):
                return False
            name = head
    if name in hosts:
        return True
    _, dot, parent = name.partition(".")
    while dot:
        if f"*.{parent}" in hosts:
            return True
        _, dot, parent = parent.partition(".")
    return False
