"""ETag and If-Match (RFC 9110): a change is made to what its maker has seen, or not at all."""

from __future__ import annotations

from orders.core.errors import PreconditionFailedError


def etag(version: int) -> str:
    """Return the ETag of a row's version."""
    return f'"{version}"'


def matches(if_match: str, version: int) -> bool:
    """Tell whether an ``If-Match`` names this version; what is malformed names none."""
    named = [each.strip() for each in if_match.split(",")]
    return named == ["*"] or etag(version) in named


def require_match(if_match: str, version: int) -> None:
    """Pass a change that was meant for this version.

    Raises:
        PreconditionFailedError: it was meant for another.
    """
    if not matches(if_match, version):
        raise PreconditionFailedError(
            "If-Match does not name the version of now: somebody changed it in the meantime; "
            "read it again, and send its ETag"
        )
