"""A request that counts once, however often it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.errors import UnprocessableError
from orders.repositories import idempotency

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Once:
    """What tells a request from others, and for how long."""

    user_id: UUID
    key: str
    lifetime: timedelta


async def answer_once(
    session: AsyncSession,
    once: Once,
    request: BaseModel,
    kind: type[Answer],
    work: Callable[[], Awaitable[Answer]],
) -> Answer:
    """Do the work, inside the caller's transaction, or return the answer it has had before.

    A request that comes while another with its key is in flight waits for that one's answer. Work
    that raises leaves nothing behind, the key neither: it can be tried again.

    Raises:
        UnprocessableError: the key belongs to another request.
    """
    fingerprint = _fingerprint(request)
    kept = await idempotency.claim(session, once.user_id, once.key, fingerprint, once.lifetime)
    if kept is None:
        answer = await work()
        await idempotency.keep(session, once.user_id, once.key, answer.model_dump_json())
        return answer
    if kept.fingerprint != fingerprint:
        raise UnprocessableError(
            "header.idempotency-key",
            "another request was sent with this key; take a new key for a new request",
            "idempotency_key_reused",
        )
    return kind.model_validate_json(kept.answer)


def _fingerprint(request: BaseModel) -> bytes:
    # What was sent and no more: a default that a newer release adds would make it another request.
    text = f"{type(request).__name__} {request.model_dump_json(exclude_unset=True)}"
    return sha256(text.encode()).digest()
