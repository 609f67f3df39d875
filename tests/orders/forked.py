"""Processes of the service that need not import it: each is forked from one that has.

To import it takes more than a second of a core, and tests that kill and replace processes start
many. That it starts from nothing is shown by tests of `tidegate serve` and `python -m orders`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkstemp
from typing import Final

_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["orders.main", "orders.worker", "tidegate.serve"])


class Forked:
    """`python -m MODULE ARGUMENTS`, in an environment of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        # A file takes whatever comes; a pipe that nobody reads would hold the process up.
        output, name = mkstemp(prefix="tidegate-forked-")
        os.close(output)
        self._output = Path(name)
        self._process = _SERVER.Process(target=_run, args=(arguments, environment, name))
        self._process.start()

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended; that of a signal is negative."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes does."""
        self._process.terminate()

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    def wait(self) -> str:
        """Wait for its end; return what it has written.

        Raises:
            TimeoutError: it has not ended after half a minute.
        """
        self._process.join(30)
        if self.code is None:
            raise TimeoutError(f"it does not end; it has written:\n{self._output.read_text()}")
        return self._output.read_text()

    def forget(self) -> None:
        """Leave nothing of it: no process, and no output."""
        self.kill()
        self._process.join()
        self._output.unlink(missing_ok=True)


def _run(arguments: Sequence[str], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    written = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(written, sys.stdout.fileno())
    os.dup2(written, sys.stderr.fileno())
    sys.argv = [*arguments]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
