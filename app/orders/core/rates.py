"""How often a client may ask: pure, on plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}
_MOST: Final = 10**9
_FORM: Final = re.compile(r"([1-9][0-9]{0,9})/(second|minute|hour)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a window of so many seconds."""

    count: int
    seconds: int

    @staticmethod
    def parse(text: str) -> Rate | None:
        """Read ``600/minute``; ``off`` is no limit.

        Raises:
            ValueError: it is neither.
        """
        if text == "off":
            return None
        found = _FORM.fullmatch(text)
        if found is None or int(found[1]) > _MOST:
            raise ValueError(
                "it is no rate; write a number per second, minute or hour as 600/minute, or off"
            )
        return Rate(int(found[1]), _SECONDS[found[2]])

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _SECONDS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"

    def window(self, now: float) -> int:
        """Return the number of the window that a time (seconds since 1970) falls into.

        Windows are the clock's, the same for all replicas: so a count is one increment of one
        number. The price is that two windows' worth may come around the turn of one.
        """
        return int(now // self.seconds)

    def standing(self, counted: int, now: float) -> Standing:
        """Judge a request that was counted as the ``counted``-th of the window of ``now``."""
        left = self.seconds - int(now) % self.seconds
        return Standing(counted <= self.count, max(self.count - counted, 0), left)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a client stands after a request."""

    allowed: bool
    remaining: int
    reset: int
    """Seconds until it may ask as often again."""


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
