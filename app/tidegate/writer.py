"""Writing lines without ever waiting for whoever reads them."""

from __future__ import annotations

import atexit
import fcntl
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LIMIT: Final = 8 * 1024 * 1024  # bytes that wait for a slow reader
_BATCH: Final = 64 * 1024  # bytes in one write
_LATENESS: Final = 0.05  # seconds in which a batch gathers
_TELL_EVERY: Final = 60.0  # seconds


class Writer:
    """Writes lines to a file descriptor from a thread of its own.

    The pipe behind stdout fills up when a log collector is slow; whoever writes to it directly
    then stands still, with the whole event loop. Here lines are dropped and counted instead.
    The thread starts with the first line, in each process of a server that forks.

    Args:
        fd: where lines go.
        describe_loss: makes the line that says how many were dropped; written once a minute.
    """

    def __init__(
        self,
        fd: int,
        describe_loss: Callable[[int], bytes],
        *,
        limit: int = _LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fd = fd
        self._describe_loss = describe_loss
        self._limit = limit
        self._clock = clock
        self.sources: list[Callable[[], None]] = []
        """Called before a line is queued and before lines are written: whoever holds some back
        hands them over with :meth:`add`."""
        self._begin()
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self.flush)

    def _begin(self) -> None:
        # In a fork as well: what the parent has queued is the parent's to write.
        self.dropped = 0
        """Lines that nobody will read, since this process began."""
        self._lines: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._flushes: deque[threading.Event] = deque()
        self.awake = False
        """Whether the thread will look for lines within 100 ms."""
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told = 0
        self._told_at = float("-inf")

    def write(self, line: bytes) -> None:
        """Queue one line, its newline included, behind all that came before it."""
        self._hand_over()
        self.add(line, 1)

    def add(self, data: bytes, lines: int) -> None:
        """Queue so many whole lines; written within about 100 ms."""
        # Not exact between threads, and need not be: it starts anew whenever the queue is empty.
        if self._size > self._limit:
            self.dropped += lines
            return
        self._size += len(data)
        self._lines.append((data, lines))
        self.rouse()

    def rouse(self) -> None:
        """Let the thread write soon: there are lines, here or at a source."""
        if not self.awake:
            self._wake_up()

    def flush(self, timeout: float = 1.0) -> bool:
        """Write what is queued; return whether all of it was within ``timeout`` seconds."""
        if self._thread is None and not self._lines and not self.dropped:
            return True
        done = threading.Event()
        self._flushes.append(done)
        self._hurry.set()
        self._wake_up()
        return done.wait(timeout)

    def _wake_up(self) -> None:
        self.awake = True
        if self._thread is None and not self._start():
            self._turn()
            return
        self._wake.set()

    def _start(self) -> bool:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tidegate-log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: no thread, but no loop either
                    return False
                self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._hurry.wait(_LATENESS)
            self._turn()

    def _turn(self) -> None:
        # Cleared before anything is taken: what comes from here on rouses the thread again.
        self._wake.clear()
        self._hurry.clear()
        self.awake = False
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        self._hand_over()
        for data, lines in self._take():
            self._write(data, lines)
        self._tell()
        for done in flushes:
            done.set()

    def _hand_over(self) -> None:
        for each in self.sources:
            try:
                each()
            except Exception:  # to be told as lost: whoever writes a line is not to blame
                self.dropped += 1

    def _take(self) -> Iterator[tuple[bytes, int]]:
        waiting = len(self._lines)
        while waiting:
            batch: list[bytes] = []
            size = lines = 0
            while waiting and size < _BATCH:
                data, count = self._lines.popleft()
                waiting -= 1
                size += len(data)
                lines += count
                batch.append(data)
            self._size = max(0, self._size - size) if self._lines else 0
            yield b"".join(batch), lines

    def _tell(self) -> None:
        lost = self.dropped - self._told
        now = self._clock()
        if lost and now - self._told_at >= _TELL_EVERY:
            self._told += lost
            self._told_at = now
            self._write(self._describe_loss(lost), 1)

    def _write(self, lines: bytes, count: int) -> None:
        data = memoryview(lines)
        try:
            with _alone(self._fd):
                while data:
                    data = data[self._write_some(data) :]
        except OSError:  # nobody reads any more (EPIPE), or the descriptor is closed
            self.dropped += count

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll()
            return 0


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """Keep the workers that share a pipe from writing into each other's lines.

    The kernel splits a write that finds the pipe full. The lock belongs to the process, so it
    ends with it.
    """
    locked = False
    with suppress(OSError):  # what cannot be locked is still written
        fcntl.lockf(fd, fcntl.LOCK_EX)
        locked = True
    try:
        yield
    finally:
        if locked:
            fcntl.lockf(fd, fcntl.LOCK_UN)
