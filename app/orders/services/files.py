"""The rules of files: whose they are, what may come in, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import ClassVar, Final
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.body import TooLargeError, at_most
from orders.core.database import transaction
from orders.core.errors import BusyError, DomainError, NotFoundError, UnprocessableError
from orders.core.file_names import shown_name
from orders.core.media_types import Sniffer, UnknownContentError
from orders.core.multipart import Part
from orders.models import File
from orders.repositories import files
from orders.repositories.files import Arrived
from orders.storage.seam import ContentMissingError, Storage, StorageError

log = logging.getLogger(__name__)

_NEVER_ARRIVED: Final = timedelta(hours=1)
"""Longer than any upload may take."""
_AT_A_TIME: Final = 100


class WrongTypeError(DomainError):
    """A file's content is not of a type that is taken."""

    status: ClassVar[HTTPStatus] = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class QuotaError(TooLargeError):
    """A user would keep more than they may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may bring."""

    field: str
    """What the form calls a file."""
    count: int
    file_bytes: int
    kept_bytes: int | None
    """Of all files of one user; ``None`` for any number."""
    types: Collection[str]


@dataclass(slots=True)
class _Allowance:
    """What a user may keep, and how much of it is used: by what is kept, and by what comes in."""

    most: int
    kept: int
    coming: int = 0

    def take(self, size: int) -> None:
        self.coming += size
        if self.kept + self.coming > self.most:
            raise QuotaError(
                f"all your files together may have {self.most} bytes, and have {self.kept} "
                "already: delete what you need no more"
            )


async def receive(
    session: AsyncSession,
    storage: Storage,
    principal: Principal,
    parts: AsyncIterator[Part],
    limits: Limits,
) -> Sequence[File]:
    """Store all files of a form, or none.

    Each is announced in the database before its first byte is stored. So whatever ends this, a
    refusal, a client that goes away, a process that is killed, its content is found and cleared.

    Raises:
        TooLargeError: a file is larger, or there are more of them, than may be.
        QuotaError: all of the user's files together are.
        WrongTypeError: a file is of a type that is not taken.
        UnprocessableError: the form is not what is asked for, or a file is empty.
        StorageError, StorageFullError: the storage does not take it.
        DomainError: whatever else ``parts`` raises.
    """
    allowance = await _allowance(session, principal, limits)
    await session.commit()  # the connection goes back: who uploads is not to hold one
    announced: list[UUID] = []
    arrived: list[Arrived] = []
    try:
        async for part in parts:
            if part.field != limits.field:
                raise UnprocessableError(
                    "body", f"a form of files has fields called {limits.field}", "unknown_field"
                )
            if len(announced) == limits.count:
                raise TooLargeError(f"a request may bring {limits.count} file(s), and has more")
            file_id = uuid4()
            async with transaction(session):
                await files.announce(session, file_id, principal.user_id)
            announced.append(file_id)
            arrived.append(await _store(storage, file_id, part, limits, allowance))
        if not arrived:
            raise UnprocessableError(f"body.{limits.field}", "the form has no such file", "missing")
        async with transaction(session):
            if allowance:
                # Others may have come in meanwhile, and no more of them can from here on.
                await files.hold(session, principal.user_id)
                kept = await files.kept_bytes(session, principal.user_id)
                _Allowance(allowance.most, kept).take(allowance.coming)
            stored = await files.settle(session, arrived)
            if len(stored) < len(arrived):
                raise BusyError("the files were cleared before they had arrived; send them again")
    except BaseException:
        await asyncio.shield(_clear(session, storage, announced))
        raise
    return stored


async def get(session: AsyncSession, principal: Principal, file_id: UUID) -> File:
    """Read what is known of a file.

    Raises:
        NotFoundError: there is none of that id that is the principal's to see.
    """
    file = await files.get(session, file_id)
    if file is None or file.user_id is None or not principal.may_act_for(file.user_id):
        raise NotFoundError(f"there is no file {file_id}")
    return file


async def list_page(
    session: AsyncSession, principal: Principal, *, limit: int, offset: int
) -> tuple[Sequence[File], int]:
    """Read a page of one's own files, and how many there are."""
    return await files.list_page(session, principal.user_id, limit=limit, offset=offset)


async def content(storage: Storage, file: File, start: int, stop: int) -> AsyncIterator[bytes]:
    """Open a part of a file's content.

    Raises:
        NotFoundError: it was deleted a moment ago.
        StorageError: it cannot be read now.
    """
    try:
        return await storage.read(file.id, start, stop)
    except ContentMissingError:
        log.warning("the content of a file is missing", extra={"file": str(file.id)})
        raise NotFoundError(f"there is no content of file {file.id} (any more)") from None


async def delete(
    session: AsyncSession, storage: Storage, principal: Principal, file_id: UUID
) -> None:
    """Delete a file: at once for everybody, and from the storage as soon as that can be reached.

    Raises:
        NotFoundError: there is none of that id that is the principal's to delete.
    """
    async with transaction(session):
        await get(session, principal, file_id)
        await files.dismiss(session, file_id)
    await _clear(session, storage, [file_id])


async def clear(session: AsyncSession, storage: Storage) -> int:
    """Delete content that has to go, a bounded number at a time; return how many went."""
    async with transaction(session):
        found = await files.to_clear(session, _NEVER_ARRIVED, _AT_A_TIME)
    return await _clear(session, storage, found)


async def _allowance(
    session: AsyncSession, principal: Principal, limits: Limits
) -> _Allowance | None:
    if limits.kept_bytes is None:
        return None
    return _Allowance(limits.kept_bytes, await files.kept_bytes(session, principal.user_id))


async def _store(
    storage: Storage, file_id: UUID, part: Part, limits: Limits, allowance: _Allowance | None
) -> Arrived:
    sniffer, digest, size, media_type = Sniffer(limits.types), sha256(), 0, ""

    async def examined() -> AsyncIterator[bytes]:
        nonlocal size, media_type
        async for chunk in at_most(part.content, limits.file_bytes):
            if allowance:
                allowance.take(len(chunk))
            sniffer.feed(chunk)
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if not size:
            raise UnprocessableError(f"body.{limits.field}", "the file is empty", "empty")
        media_type = sniffer.close()

    try:
        await storage.write(file_id, examined())
    except UnknownContentError as error:
        raise WrongTypeError(
            f"a file is of no type that is taken: {error}. Taken are {', '.join(limits.types)}"
        ) from None
    name = shown_name(part.file_name, media_type)
    return Arrived(file_id, name, media_type, size, digest.digest())


async def _clear(session: AsyncSession, storage: Storage, file_ids: Collection[UUID]) -> int:
    """Delete what can be deleted now; the rest stays announced, and its turn comes again."""
    gone = []
    try:
        for file_id in file_ids:
            await storage.delete(file_id)
            gone.append(file_id)
    except StorageError:
        pass  # the storage has logged it
    if gone:
        try:
            async with transaction(session):
                await files.forget(session, gone)
        except (SQLAlchemyError, OSError) as error:
            log.warning("files are cleared later (%s)", type(error).__name__)
    return len(gone)
