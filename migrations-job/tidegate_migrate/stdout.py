"""Stdout is for what a command answers: with ``--json`` it has to be one line of JSON."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


class _Answer(io.FileIO):
    """Stdout, whatever becomes of it: ``lost`` is why it took no more."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error
            return len(data)


@contextmanager
def answering() -> Iterator[None]:
    """Let a command run to its end, and to its own exit code, should nobody take what it prints.

    A reader that has seen enough (``plan | head``) is fine; anything else is told on stderr.
    """
    answer = _Answer(1, "w", closefd=False)
    stream = io.TextIOWrapper(
        io.BufferedWriter(answer),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=sys.stdout.isatty(),
    )
    with redirect_stdout(stream):
        try:
            yield
        finally:
            stream.flush()
    if answer.lost and not isinstance(answer.lost, BrokenPipeError):
        print(f"stdout took not all of the answer: {answer.lost.strerror}", file=sys.stderr)


@contextmanager
def kept_clean() -> Iterator[None]:
    """Send to stderr what others print meanwhile: env.py, a revision.

    The file descriptor too: a logger may hold the stream of before, a child process the number.
    """
    _flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            stream.flush()
