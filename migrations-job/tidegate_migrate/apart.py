"""Runs what is others' own, env.py and revisions, in a process apart.

It begins as the runner is, before any of their code was loaded. What that leaves behind in memory,
an open file that was read, a cached connection, an object that counts as stored, no later process
finds. And one that crashes leaves the runner to report it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from traceback import format_exception
from typing import Any, Final, Self

_CONTEXT: Final = multiprocessing.get_context(
    "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
)
_LAST_WORDS: Final = 5.0  # seconds for what others do at the end of a process: send their metrics


class EndedError(Exception):
    """The process has ended by itself; the text says how."""


class Apart:
    """A process, and the way to talk with it.

    ``work`` runs there, and is given its end of the pipe. The process ends with the runner,
    whatever ends that one.
    """

    def __init__(self, work: Callable[[Connection], None]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        # mypy knows of no context that may be one or the other.
        make: Any = _CONTEXT
        self._process = make.Process(target=_begin, args=(work, theirs, self.pipe), daemon=True)
        self._process.start()
        theirs.close()

    def receive(self, within: float | None = None) -> Any:  # noqa: ANN401 - whatever was sent
        """Wait for what it says next, ``within`` so many seconds.

        Raises:
            EndedError: it has ended instead.
            TimeoutError: it has said nothing in time.
        """
        try:
            if not self.pipe.poll(within):
                raise TimeoutError
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join(_LAST_WORDS)
            raise EndedError(_how(self._process.exitcode)) from None

    def ask(self, name: str, *arguments: Any, within: float | None = None) -> Any:  # noqa: ANN401
        """Ask what it serves, see :func:`serve`.

        Raises:
            EndedError, TimeoutError: as for :meth:`receive`.
            Exception: what is raised there.
        """
        with suppress(BrokenPipeError):
            self.pipe.send((name, arguments, True))
        return _taken(self.receive(within))

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt there."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def __enter__(self) -> Self:
        """Have it for a block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let it come to its end; where the block has failed, end it."""
        self.pipe.close()
        if kind is None:
            self._process.join(_LAST_WORDS)
        self._process.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


class Line:
    """The other end of the pipe, in the process apart."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - whatever goes with it
        """Say something, and go on."""
        self._pipe.send((name, arguments, False))

    def ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Ask, and wait for the answer; what is raised there is raised here."""
        self._pipe.send((name, arguments, True))
        return _taken(self._pipe.recv())


def serve(pipe: Connection, answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer what is asked, each with what its name stands for, until nobody is there to ask."""
    with suppress(EOFError):
        while True:
            answer(pipe, answers, pipe.recv())


def answer(pipe: Connection, answers: Mapping[str, Callable[..., Any]], said: Any) -> None:  # noqa: ANN401
    """Do what a name stands for, and send what comes of it, or is raised, where it was asked."""
    name, arguments, asked = said
    try:
        found = answers[name](*arguments)
    except Exception as error:
        if not asked:
            raise
        error.add_note("".join(format_exception(error)))  # where it was, for who reads it
        found = error
    if asked:
        pipe.send(found)


def _taken(answer: Any) -> Any:  # noqa: ANN401
    if isinstance(answer, Exception):
        raise answer
    return answer


def _begin(work: Callable[[Connection], None], pipe: Connection, theirs: Connection) -> None:
    signal.set_wakeup_fd(-1)  # it is the runner's, which is not told what this one is
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which passes it on
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    theirs.close()
    # Stdout is for what a command answers. The streams are new: another thread of the runner may
    # have been writing to the old ones, and never lets go of them here.
    os.dup2(2, 1)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        work(pipe)
    pipe.close()
    atexit._run_exitfuncs()  # multiprocessing passes over them


def _end_with_the_runner() -> None:
    if runner := multiprocessing.parent_process():
        runner.join()
    os._exit(1)


def _how(code: int | None) -> str:
    if code is None:
        return "it does not answer any more"
    if code < 0:
        name = signal.Signals(-code).name
        killed = ", as for want of memory" if -code == signal.SIGKILL else ""
        return f"it was ended by {name}{killed}"
    return f"it ended by itself, with exit code {code}"
