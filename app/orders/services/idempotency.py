"""A request that counts once, however often it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Generic, TypeVar
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


@dataclass(frozen=True, slots=True)
class Told(Generic[Answer]):
    """An answer, and whether it is the last word.

    If not, whoever is told it goes on from there and then says :func:`conclude`: the request that
    began, and each that is sent again before there is a last word. So it does not matter who of
    them dies.
    """

    answer: Answer
    is_final: bool


async def answer_once(
    session: AsyncSession,
    once: Once | None,
    request: BaseModel,
    kind: type[Answer],
    work: Callable[[], Awaitable[Told[Answer]]],
) -> Told[Answer]:
    """Do the work, inside the caller's transaction, or return the answer it has had before.

    A request that comes while another with its key is in flight waits for that one's answer. Work
    that raises leaves nothing behind, the key neither: it can be tried again. Without ``once`` the
    work is simply done.

    Raises:
        UnprocessableError: the key belongs to another request.
    """
    if once is None:
        return await work()
    fingerprint = _fingerprint(request)
    kept = await idempotency.claim(session, once.user_id, once.key, fingerprint, once.lifetime)
    if kept is None:
        told = await work()
        text = told.answer.model_dump_json()
        await idempotency.keep(session, once.user_id, once.key, text, is_final=told.is_final)
        return told
    if kept.fingerprint != fingerprint:
        raise UnprocessableError(
            "header.idempotency-key",
            "another request was sent with this key; take a new key for a new request",
            "idempotency_key_reused",
        )
    return Told(kind.model_validate_json(kept.answer), kept.is_final)


async def conclude(session: AsyncSession, once: Once | None, answer: Answer) -> Answer:
    """Keep the last word, inside the caller's transaction; return the one that was said first."""
    if once is None:
        return answer
    text = answer.model_dump_json()
    kept = await idempotency.conclude(session, once.user_id, once.key, text)
    return type(answer).model_validate_json(kept)


def _fingerprint(request: BaseModel) -> bytes:
    # What was sent and no more: a default that a newer release adds would make it another request.
    text = f"{type(request).__name__} {request.model_dump_json(exclude_unset=True)}"
    return sha256(text.encode()).digest()
