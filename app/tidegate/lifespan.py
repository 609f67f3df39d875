"""What runs before the application's own startup and after its own shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from tidegate.admin import Admin
from tidegate.flush import flush
from tidegate.lifecycle import Lifecycle

logger = logging.getLogger(__name__)

# Seconds for the last spans, logs and events. With it, the grace period that the chart renders
# (drain delay + time-out + 10) is enough in the worst case.
FLUSH_TIMEOUT: Final = 5.0


@asynccontextmanager
async def surround(
    inner: AbstractAsyncContextManager[Any], lifecycle: Lifecycle, admin: Admin
) -> AsyncIterator[Any]:
    """Run the application's lifespan ``inner`` inside of the admin port's, and flush at the end."""
    if not lifecycle.drains:
        logger.warning(
            "this process does not run under `tidegate serve`: it stops at SIGTERM without a "
            "drain delay, so a release will drop requests and WebSockets; "
            "start it with `tidegate serve MODULE:APP`"
        )
    lifecycle.begin()
    # Before the application's own startup: probes are answered while it takes its time.
    admin.start(asyncio.get_running_loop())
    try:
        stack = AsyncExitStack()
        state = await stack.enter_async_context(inner)
        try:
            yield state
        finally:
            lifecycle.end()  # unless the drain did so before
            await _close(stack, lifecycle.end_by)
    finally:
        await flush(lifecycle.flushers, within=FLUSH_TIMEOUT)
        # Waits for the admin thread to end, which must not block this loop.
        await asyncio.to_thread(admin.stop)


async def _close(stack: AsyncExitStack, by: float | None) -> None:
    try:
        async with asyncio.timeout_at(by) as limit:
            await stack.aclose()
    except TimeoutError:
        if not limit.expired():
            raise
        logger.error("the application's own shutdown took too long and was cut off")
