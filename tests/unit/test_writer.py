"""Whoever writes a line never waits; whoever reads gets whole lines, or is told what is lost."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tidegate.writer import Writer


@dataclass
class Pipe:
    """A pipe as between a container and its log collector."""

    reader: int
    writer: int

    def read(self, size: int = 1 << 20) -> bytes:
        """What has been written so far; waits for something."""
        assert select.select([self.reader], [], [], 10)[0], "nothing was written"
        return os.read(self.reader, size)

    def fill(self) -> int:
        """Leave no room in it; return how many bytes that took."""
        os.set_blocking(self.writer, False)
        filled = 0
        try:
            while True:
                filled += os.write(self.writer, b"-" * 4096)
        except BlockingIOError:
            os.set_blocking(self.writer, True)
        return filled

    def drain(self, size: int) -> None:
        """Read what :meth:`fill` wrote."""
        while size:
            size -= len(os.read(self.reader, min(size, 4096)))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    # As small as the kernel has it: a slow reader shows soon.
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield Pipe(reader, writer)
    os.close(writer)
    os.close(reader)


def lost(count: int) -> bytes:
    return f"lost {count}\n".encode()


def until(satisfied: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not satisfied():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_lines_arrive_in_order_without_a_flush(pipe: Pipe) -> None:
    writer = Writer(pipe.writer, lost)
    started = time.monotonic()
    for number in range(100):
        writer.write(b"%d\n" % number)
    received = b""
    while received.count(b"\n") < 100:
        received += pipe.read()
    assert time.monotonic() - started < 5  # 50 ms where nothing else runs
    assert received == b"".join(b"%d\n" % number for number in range(100))


def test_a_reader_that_stands_still_costs_the_writer_nothing_but_lines(pipe: Pipe) -> None:
    filled = pipe.fill()
    writer = Writer(pipe.writer, lost, limit=1000)
    slowest = 0.0
    for _ in range(1000):
        started = time.monotonic()
        writer.write(b"x" * 99 + b"\n")
        slowest = max(slowest, time.monotonic() - started)
    assert slowest < 1  # writing to the pipe would never have returned
    assert not writer.flush(timeout=0.01)
    dropped = writer.dropped
    assert dropped > 900
    pipe.drain(filled)
    received = b""
    while b"lost" not in received:
        received += pipe.read()
    lines = received.splitlines()
    assert lines.pop() == lost(dropped).strip()
    assert lines == [b"x" * 99] * (1000 - dropped)


def test_what_is_dropped_is_told_once_a_minute(pipe: Pipe) -> None:
    now = 1000.0
    writer = Writer(pipe.writer, lost, limit=-1, clock=lambda: now)
    writer.write(b"dropped\n")
    assert writer.flush(timeout=10)
    assert pipe.read() == b"lost 1\n"
    for _ in range(3):
        writer.write(b"dropped\n")
        assert writer.flush(timeout=10)
    now += 59
    assert writer.flush(timeout=10)
    assert not select.select([pipe.reader], [], [], 0)[0]
    now += 1
    assert writer.flush(timeout=10)
    assert pipe.read() == b"lost 3\n"


def test_lines_longer_than_the_pipe_arrive_whole(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)  # as an event loop may have left it: EAGAIN
    writer = Writer(pipe.writer, lost)
    sent = b"".join(bytes([number]) * 30_000 + b"\n" for number in range(65, 75))
    for line in sent.splitlines(keepends=True):
        writer.write(line)
    received = b""
    while len(received) < len(sent):
        received += pipe.read(1000)
    assert received == sent
    assert writer.dropped == 0


def test_a_flush_waits_for_what_was_written_before_it(pipe: Pipe) -> None:
    writer = Writer(pipe.writer, lost)
    assert writer.flush(timeout=0), "nothing to write needs no thread"
    for number in range(50):
        writer.write(b"%d\n" % number)
        assert writer.flush(timeout=10)
        assert pipe.read() == b"%d\n" % number


def test_a_reader_that_is_gone_ends_neither_thread_nor_process() -> None:
    reader, fd = os.pipe()
    writer = Writer(fd, lost)
    os.close(reader)
    writer.write(b"one\n")
    assert writer.flush(timeout=10)
    assert writer.dropped >= 1
    writer.write(b"two\n")
    assert writer.flush(timeout=10)
    os.close(fd)


def test_threads_lose_no_line(pipe: Pipe) -> None:
    writer = Writer(pipe.writer, lost)

    def write() -> None:
        for _ in range(500):
            writer.write(b"line\n")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    received = b""
    while len(received) < 2000 * 5:
        received += pipe.read()
    for thread in threads:
        thread.join()
    assert received == b"line\n" * 2000


FORKING = """
import os, sys
from tidegate.writer import Writer
writer = Writer(1, lambda lost: b"lost")
writer.write(b"parent\\n")
children = []
for name in (b"A", b"B"):
    if not (child := os.fork()):
        for number in range(300):
            writer.write(name * 999 + b"\\n")
        os.write(2, b".")
        sys.exit(0)  # as a worker ends: through atexit
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


def test_each_forked_worker_writes_its_own_lines_whole_and_before_it_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        assert process.stderr.read(2) == b"..", "both write into a pipe that is full"
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert sorted(lines) == [b"A" * 999] * 300 + [b"B" * 999] * 300 + [b"parent"]


def test_whoever_holds_lines_back_is_asked_for_them_before_others_are_written(pipe: Pipe) -> None:
    writer = Writer(pipe.writer, lost)
    held = [b"second\n", b"first\n"]
    writer.sources.append(lambda: writer.add(held.pop(), 1) if held else None)
    writer.rouse()
    assert pipe.read() == b"first\n", "within 100 ms, and nobody has flushed"
    writer.write(b"third\n")
    assert writer.flush(10)
    assert pipe.read() == b"second\nthird\n"


def test_a_source_that_fails_stops_no_line_and_is_told(pipe: Pipe) -> None:
    def fail() -> None:
        raise TypeError("no text")

    writer = Writer(pipe.writer, lost)
    writer.sources.append(fail)
    writer.write(b"one\n")
    assert writer.flush(10)
    assert pipe.read().startswith(b"one\nlost ")


def test_where_no_thread_can_be_started_lines_are_written_by_whoever_has_them(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = Writer(pipe.writer, lost)
    held = [b"held\n"]
    writer.sources.append(lambda: writer.add(held.pop(), 1) if held else None)
    writer.rouse()
    writer.write(b"one\n")
    assert pipe.read() == b"held\none\n"
