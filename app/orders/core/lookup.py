"""Finding by key, for all who ask at the same moment together.

Under load many requests come to the same point within one turn of the event loop: each needs the
standing of its user, say. One statement for all of them costs little more than one for each would.
Who comes alone is asked for alone, and nobody waits for another: who comes after the statement was
sent is of the next one. So nobody is told anything that is older than the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, Final, Generic, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanKind

Key = TypeVar("Key")
Found = TypeVar("Found")

_TRACER: Final = trace.get_tracer("orders.lookup")


class Lookup(Generic[Key, Found]):
    """Finds things of one kind.

    Args:
        table: where, for who reads traces.
        read: returns those of several keys that there are. What it raises is raised to all who
            asked, so no client may choose a key that the database refuses.
    """

    def __init__(
        self, table: str, read: Callable[[AbstractSet[Key]], Awaitable[Mapping[Key, Found]]]
    ) -> None:
        self._table = table
        self._read = read
        self._keys: set[Key] = set()
        """Of the statement that is to be sent at the loop's next turn."""
        self._answer: asyncio.Task[Mapping[Key, Found]]

    async def find(self, key: Key) -> Found | None:
        """Return what has the key now, for reading only: others may have been given the same."""
        if not self._keys:
            # In no request's context: it is of several.
            self._answer = asyncio.create_task(self._ask(), context=Context())
        self._keys.add(key)
        with self._span():
            return (await asyncio.shield(self._answer)).get(key)

    async def _ask(self) -> Mapping[Key, Found]:
        keys, self._keys = self._keys, set()
        return await self._read(keys)

    def _span(self) -> AbstractContextManager[Any]:
        if not trace.get_current_span().is_recording():
            return nullcontext()
        return _TRACER.start_as_current_span(
            f"SELECT {self._table}",
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.collection.name": self._table},
        )
