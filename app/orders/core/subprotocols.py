"""What a WebSocket's client offers in ``Sec-WebSocket-Protocol``: pure.

A browser can send no other header of its own choice with a WebSocket, and a URL is no place for a
secret: servers and proxies log it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PROTOCOL: Final = "orders.v1"
"""What is spoken; the only one of the offered that is ever chosen."""


def offered(protocols: Sequence[str], kind: str) -> str | None:
    """Return the secret that was offered as ``<kind>.<secret>``; ``None`` if there is none."""
    prefix = f"{kind}."
    found = (each.removeprefix(prefix) for each in protocols if each.startswith(prefix))
    return next(found, None)
