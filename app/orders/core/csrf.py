"""Which requests may be answered by a cookie: those of our own pages.

A browser sends a cookie with every request, whichever page made it. Two things tell ours apart, and
neither is a secret that a page would have to hold, or that another subdomain could plant as it can
the cookie of a double submit: the header that asks for the browser mode, which no form can send and
which a foreign script may only send after CORS has allowed it; and ``Origin``, which every browser
puts on such a request and no script can change.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit


def is_own_page(origin: str | None, host: str | None, origins: Collection[str]) -> bool:
    """Decide whether a request was made by a page of ours.

    Args:
        origin: the header; without it the request is nobody's.
        host: the header, what the browser believes it speaks with.
        origins: further origins that are ours, as ``https://shop.example.org``.
    """
    if not origin or origin == "null":
        return False
    if origin.lower() in origins:
        return True
    try:
        # The scheme may have been taken off by whatever ends TLS before us: the host decides.
        return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()
    except ValueError:  # no browser writes such a one
        return False
