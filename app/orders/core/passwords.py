"""Passwords: argon2id, off the event loop, a few at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, TypeVar
from unicodedata import normalize

from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from orders.core.errors import BusyError

# OWASP's second choice for argon2id: 19 MiB each, so that a few at once fit into a small pod, and
# one lane, since argon2 would start its own threads for more. About 20 ms on one core.
HASHER: Final = PasswordHash((Argon2Hasher(memory_cost=19 * 1024, time_cost=2, parallelism=1),))
_MOST_WAITING: Final = 50
"""Behind so many a client would wait for seconds: it had better come again."""

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords.

    Args:
        at_once: how many may be worked on at a time; each takes a thread and 19 MiB.
    """

    def __init__(self, at_once: int) -> None:
        self._limiter = CapacityLimiter(at_once)
        self._most = at_once + _MOST_WAITING
        self._asked = 0
        self._nobodys = HASHER.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Return what is stored of a password.

        Raises:
            BusyError: too many others wait already.
        """
        return await self._off_the_loop(lambda: HASHER.hash(_normal(password)))

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Return whether the password is right, and a hash to store instead if it is outdated.

        An unknown user (``stored`` is ``None``) takes as long as a known one.

        Raises:
            BusyError: too many others wait already.
        """
        hashed = stored or self._nobodys
        right, newer = await self._off_the_loop(
            lambda: HASHER.verify_and_update(_normal(password), hashed)
        )
        return (right, newer) if stored else (False, None)

    async def _off_the_loop(self, work: Callable[[], T]) -> T:
        if self._asked >= self._most:
            raise BusyError("too many are signing in at this moment; try again")
        self._asked += 1
        try:
            return await to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._asked -= 1


def _normal(password: str) -> str:
    # One keyboard sends an umlaut as one character, another as two.
    return normalize("NFKC", password)
