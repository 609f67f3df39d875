"""Ids of requests and spans, from a generator that nobody else seeds.

An application that calls ``random.seed`` would else repeat its ids, and so would two replicas.
"""

from __future__ import annotations

import os
from random import Random
from typing import Final

_random: Final = Random()  # noqa: S311 - ids are no secrets; seeded by the operating system
_bits: Final = _random.getrandbits
os.register_at_fork(after_in_child=_random.seed)


def new_ids(count: int = 1) -> str:
    """Return 48 hexadecimal digits for each: 32 of a trace or a request, then 16 of a span."""
    return _bits(192 * count).to_bytes(24 * count, "big").hex()
