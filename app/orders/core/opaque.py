"""Random secrets that are shown once and stored as a hash: refresh tokens and API keys.

256 random bits cannot be guessed from their SHA-256, so the slow hash and the salt that a password
needs would only cost time here, at every request.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256


def new_secret() -> str:
    """Make a secret of 256 bits, as 43 characters that are safe in a URL, header or cookie."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret: 32 bytes."""
    return sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner holds it: a prefix to find it by, and a secret to know it by.

    It begins with ``ok_``, so that scanners of source code can tell it for what it is.
    """

    prefix: str
    secret: str

    @classmethod
    def new(cls) -> ApiKey:
        """Make a key."""
        return cls(secrets.token_hex(6), new_secret())

    @classmethod
    def parse(cls, text: str) -> ApiKey | None:
        """Read a key from a header; ``None`` if it is none."""
        kind, _, rest = text.partition("_")
        prefix, _, secret = rest.partition("_")
        well_formed = kind == "ok" and len(prefix) == 12 and len(secret) == 43
        well_formed = well_formed and prefix.isalnum() and text.isascii()
        return cls(prefix, secret) if well_formed else None

    def __str__(self) -> str:
        return f"ok_{self.prefix}_{self.secret}"

    def matches(self, stored: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(hash_secret(self.secret), stored)
