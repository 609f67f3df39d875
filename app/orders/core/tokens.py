"""Access tokens: signed, short-lived, and read by one way only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid4

import jwt

from orders.core.access import Role
from orders.core.errors import InvalidTokenError
from orders.core.signing import KeyRing

_REQUIRED: Final = ["sub", "iat", "exp", "nbf", "jti", "type", "iss", "aud", "role"]
_LEEWAY: Final = timedelta(seconds=10)
"""How far the clocks of two pods may be apart."""
_MOST_VERIFIED: Final = 1024
_EXPIRED: Final = "the access token has expired; refresh it"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. The role is not in it: the database knows the one of now."""

    user_id: UUID
    version: int
    """The user's ``token_version`` when it was issued."""
    expires_at: datetime


class Tokens:
    """Issues and reads access tokens."""

    def __init__(self, ring: KeyRing, issuer: str, audience: str, lifetime: timedelta) -> None:
        self.ring = ring
        self.issuer = issuer
        self.audience = audience
        self.lifetime = lifetime
        # A client sends the same token again and again: its signature does not change meanwhile.
        self._verified = lru_cache(_MOST_VERIFIED)(self._verify)

    def issue(self, user_id: UUID, role: Role, version: int) -> str:
        """Return a token for the user."""
        now = datetime.now(UTC)
        claims = {
            "sub": str(user_id),
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
            "jti": str(uuid4()),
            "type": "access",
            "iss": self.issuer,
            "aud": self.audience,
            "role": role,
            "ver": version,
        }
        key = self.ring.current
        headers = {"kid": key.kid} if key.kid else None
        return jwt.encode(claims, self.ring.signer, algorithm=key.algorithm, headers=headers)

    def read(self, token: str) -> Claims:
        """Return the claims of a valid token.

        Raises:
            InvalidTokenError: it was not issued here, or not for this, or is no longer valid.
        """
        claims = self._verified(token)
        if claims.expires_at + _LEEWAY <= datetime.now(UTC):
            raise InvalidTokenError(_EXPIRED)
        return claims

    def _verify(self, token: str) -> Claims:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self.ring.keys.get(kid)
            if key is None:
                raise InvalidTokenError("the token was signed by a key that is not known here")
            claims = jwt.decode(
                token,
                key.verifier,
                algorithms=[key.algorithm],  # the key's own, whatever the token's header says
                issuer=self.issuer,
                audience=self.audience,
                leeway=_LEEWAY,
                options={"require": _REQUIRED},
            )
            return _claims(claims)
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError(_EXPIRED) from None
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
            raise InvalidTokenError("the access token is not valid") from None


def _claims(claims: dict[str, Any]) -> Claims:
    if claims["type"] != "access":
        raise ValueError("a token for something else")
    return Claims(
        UUID(claims["sub"]), int(claims["ver"]), datetime.fromtimestamp(claims["exp"], UTC)
    )
