"""The end on SIGTERM, or Ctrl-C: cancel what runs, say so, and be gone within five seconds.

Python runs a signal's handler only between two of its own instructions: never, while a driver
waits for the server in C. So a thread watches as well: it cancels the query through the server,
and where even that does not bring the run to its end, it reports and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

_OWN_TIME: Final = 1.0  # seconds in which the run may end by itself
_OVERTIME: Final = 4.0  # seconds after which nothing is waited for
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}
EXIT_CODE: Final = 128 + signal.SIGTERM


class Ending:
    """Ends a run once it is told to. ``overtime`` reports in place of a run that cannot.

    ``cancel`` is what cancels the running statement through the server; a run sets it. ``told``
    is set from then on: what is raised meanwhile may be anything.
    """

    def __init__(self, overtime: Callable[[], None]) -> None:
        self._overtime = overtime
        self._over = threading.Lock()
        self.cancel: Callable[[], None] = lambda: None
        self.told = False

    def listen(self) -> None:
        """From now on these raise KeyboardInterrupt, on which psycopg cancels its query."""
        told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        for each in _SIGNALS:
            signal.signal(each, self._interrupt)
        watch = threading.Thread(target=self._watch, args=[told], daemon=True)
        watch.start()

    def leave_after(self, seconds: float, report: Callable[[], None], code: int) -> None:
        """Report and leave with ``code`` where the run has not come to its end by then.

        A server that stands still without an end to its connections holds whoever asks it.
        """

        def leave() -> None:
            if self._over.acquire(blocking=False):
                report()
                os._exit(code)

        timer = threading.Timer(seconds, leave)
        timer.daemon = True
        timer.start()

    def reporting(self) -> None:
        """Take over what is left to say: after this the thread keeps silent."""
        _ignore()
        self._over.acquire()

    def _watch(self, told: int) -> None:
        while not _SIGNALS & set(os.read(told, 64)):
            pass
        deadline = time.monotonic() + _OVERTIME
        time.sleep(_OWN_TIME)
        with suppress(Exception):  # the server may be gone: then there is nothing to cancel
            self.cancel()
        time.sleep(max(0.0, deadline - time.monotonic()))
        if self._over.acquire(timeout=0.5):
            self._overtime()
        os._exit(EXIT_CODE)

    def _interrupt(self, signum: int, frame: FrameType | None) -> NoReturn:
        _ignore()  # once is enough: let it clean up
        self.told = True
        raise KeyboardInterrupt


def _ignore() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
