"""Where a process stands between its start and its end, and who must hear of the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tidegate.flush import Flusher
from tidegate.websockets import WebSockets


@dataclass(slots=True)
class Lifecycle:
    """Plain flags, set on the service's event loop or in a signal handler, read by many."""

    drains: bool = False
    """`tidegate serve` runs this process: SIGTERM begins a drain."""

    started: bool = False
    """The application's own startup is over."""

    was_ready: bool = False
    """Every serve-blocking check has passed once: from here on no verdict makes this process
    unready."""

    draining: bool = False
    """SIGTERM has arrived: unready, still answering, no new keep-alive."""

    end_by: float | None = None
    """When the application's own shutdown must be over, in the event loop's time."""

    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """The drain delay is over: what is in flight should come to its end."""

    websockets: WebSockets = field(default_factory=WebSockets)

    flushers: dict[str, Flusher] = field(default_factory=dict)
    """What still holds telemetry at the end, by the name that a log line calls it."""

    def begin(self) -> None:
        """Start with a clean slate where an application is started again, as its tests do.

        A SIGTERM that came before the first start stays.
        """
        if self.ending.is_set():
            self.started = self.was_ready = self.draining = False
            self.end_by = None
            self.ending = asyncio.Event()
            self.websockets = WebSockets()

    def end(self) -> None:
        """Tell all that is in flight to come to its end; on the service's event loop."""
        self.draining = True
        self.ending.set()
        self.websockets.say_goodbye()
