"""What the service asks of a storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import ClassVar, Protocol
from uuid import UUID

from orders.core.errors import BusyError, DomainError


class StorageError(BusyError):
    """The storage does not do what it was asked; nobody knows whether it did a part of it."""


class StorageFullError(DomainError):
    """There is no room left."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INSUFFICIENT_STORAGE


class NotConfiguredError(DomainError):
    """Nobody has said where files are kept."""

    status: ClassVar[HTTPStatus] = HTTPStatus.NOT_IMPLEMENTED


class ContentMissingError(Exception):
    """There is nothing under this key."""


class Storage(Protocol):
    """Content under keys that the service has made: no text of a client takes part in them."""

    async def write(self, key: UUID, content: AsyncIterator[bytes]) -> None:
        """Store the content, all of it or nothing: it is there to stay once this returns.

        Raises:
            StorageError, StorageFullError: it cannot be stored now.
            Exception: whatever ``content`` raises.
        """

    async def read(self, key: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Open the bytes from ``start`` up to ``stop``, and return them chunk by chunk.

        Raises:
            ContentMissingError: there are none.
            StorageError: they cannot be read now.
        """

    async def delete(self, key: UUID) -> None:
        """Delete the content, and whatever a write of it that was cut off has left; it may be gone.

        Raises:
            StorageError: it cannot be deleted now.
        """
