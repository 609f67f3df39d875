"""The header ``traceparent`` of W3C Trace Context: read, never trusted."""

from __future__ import annotations

import re
from typing import Final

Parent = tuple[str, str, bool]
"""Trace id (32 hexadecimal digits), span id (16) and whether the caller sampled the trace."""

# Versions beyond 00 may carry more fields; ff is forbidden, and so are ids of zeros only.
_HEADER: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


def read_traceparent(header: bytes) -> Parent | None:
    """Return what the header says; ``None`` where the specification says to ignore it."""
    found = _HEADER.fullmatch(header.strip())
    if found is None or (found[4] is not None and header.lstrip().startswith(b"00")):
        return None
    return found[1].decode(), found[2].decode(), bool(int(found[3], 16) & 1)
