"""Where a process stands between its start and its end: plain flags, read by many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lifecycle:
    """Set on the service's event loop or in a signal handler, read from the admin thread."""

    started: bool = False
    """The application's own startup is over."""

    was_ready: bool = False
    """Every check has passed once: from here on no verdict makes this process unready."""

    draining: bool = False
    """SIGTERM has arrived: unready, still answering, no new keep-alive."""
