"""Which part of a file is asked for, and whether any (RFC 9110, 13 and 14): pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ONE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from ``start`` up to, not with, ``stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many."""
        return self.stop - self.start


class UnsatisfiableError(Exception):
    """The range begins behind the end."""


def wanted(
    header: str | None, if_range: str | None, size: int, etag: str, modified: str
) -> Span | None:
    """Return the part that is asked for; ``None`` for the whole.

    The whole is also the answer to what cannot be meant (which RFC 9110 asks for), to a part of
    another version, and to several parts at once, which the RFC lets a server choose: many small
    or overlapping ones are an attack, and whoever wants two parts can ask twice.

    Args:
        header: ``Range``.
        if_range: ``If-Range``: an ETag, or a date that must be ``modified`` to the letter.
        size: of the file, at least 1.
        etag: of the file, a strong one.
        modified: the file's ``Last-Modified``.

    Raises:
        UnsatisfiableError: no byte of the file is in the range.
    """
    match = _ONE.fullmatch(header or "")
    if match is None or (if_range is not None and if_range not in (etag, modified)):
        return None
    first, last = match.groups()
    if not first:
        return _last_bytes(last, size)
    start, stop = int(first), int(last) + 1 if last else size
    if stop <= start and last:
        return None
    if start >= size:
        raise UnsatisfiableError
    return Span(start, min(stop, size))


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has what it asks for already."""
    if if_none_match is None:
        return False
    named = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return named == ["*"] or etag in named


def _last_bytes(count: str, size: int) -> Span | None:
    if not count:
        return None
    if int(count) == 0:
        raise UnsatisfiableError
    return Span(max(0, size - int(count)), size)
