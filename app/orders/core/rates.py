"""How often a client may ask, and who is one: pure, on plain data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from limits import RateLimitItem, parse_many

_MOST: Final = 10**9


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so much time."""

    item: RateLimitItem

    @staticmethod
    def parse(text: str) -> Rate | None:
        """Read ``600/minute`` or ``100/5 minutes``; ``off`` is no limit.

        Raises:
            ValueError: it is neither.
        """
        if text == "off":
            return None
        try:
            (item,) = parse_many(text)
        except ValueError:
            item = None
        if item is None or not 0 < item.amount <= _MOST or not 0 < item.multiples <= _MOST:
            raise ValueError("it is no rate; write one as 600/minute or 100/5 minutes, or off")
        return Rate(item)

    @property
    def count(self) -> int:
        """How many."""
        return self.item.amount

    @property
    def seconds(self) -> int:
        """In how many seconds."""
        return self.item.get_expiry()

    def __str__(self) -> str:
        several, unit = self.item.multiples, self.item.GRANULARITY.name
        return f"{self.count}/{unit}" if several == 1 else f"{self.count}/{several} {unit}s"


@lru_cache(maxsize=4096)  # a client seldom asks once
def network_of(address: str) -> str:
    """Return who is counted for an address: of IPv6 the /64, which one customer gets whole."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a socket's path, or nothing
    if isinstance(parsed, IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))
