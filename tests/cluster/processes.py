"""Starting long-running programs that never outlive whoever started them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import ClusterError


def end_as_by_ctrl_c() -> None:
    """Let `kill` and a closed terminal undo what is half done, as Ctrl-C does.

    A signal that was told to be ignored stays so: `nohup` means it.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)


class Process:
    """A running program with its log in a file.

    On Linux the kernel kills it when the thread that started it ends, even by SIGKILL
    (`setpriv --pdeathsig`), so a killed test run leaves nothing behind. Start it from a thread
    that lives as long as the program is needed: the main one.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: dict[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*leash, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=descriptors,
                # Ctrl-C reaches the parent only, which then ends this in its own order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """Raise if it ended: nothing here is meant to end by itself."""
        code = self._popen.poll()
        if code is not None:
            raise ClusterError(f"{self.name} ended with {code}. {log_tail(self.log)}")

    def kill(self) -> None:
        """End it at once: its data is thrown away, so there is nothing to flush."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGKILL)
        self._popen.wait()


def log_tail(log: Path, lines: int = 3) -> str:
    """The end of a log, ready to stand in an error."""
    text = log.read_text(errors="replace").strip().splitlines()[-lines:] if log.exists() else []
    return f"The end of {log}:\n" + ("\n".join(text) or "(empty)")


def wait_until(
    what: str,
    answers: Callable[[], bool],
    seconds: float,
    processes: Sequence[Process] = (),
    hint: str = "",
) -> None:
    """Poll until `answers()`; fail at once when one of the processes ends meanwhile."""
    deadline = time.monotonic() + seconds
    while not answers():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            ending = hint or (log_tail(processes[-1].log) if processes else "")
            raise ClusterError(f"{what} did not happen within {seconds:.0f} s. {ending}")
        time.sleep(0.05)


def start_time(pid: int) -> str:
    """When a process began, in ticks since boot: a recycled pid has another one.

    Raises ProcessLookupError for one that has ended and only waits to be collected.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(pid)
    return fields[19]


def first_child(pid: int) -> int | None:
    """The child of a process; of `unshare --fork`, that is PID 1 of the new namespace."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def kill(pid: int) -> None:
    """Kill and wait until it is gone; of a PID 1 that means: with all its processes."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], 30)
        finally:
            os.close(descriptor)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)  # when it is our own child, nobody else would collect it
