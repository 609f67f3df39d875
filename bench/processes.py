"""Servers and workers: started on a core, held still while others are measured, ended by id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.rows import Row

ROOT = Path(__file__).resolve().parents[1]
PATH = "/api/v1/orders/42"
_KEPT = 8192  # lines of output, for errors and for the requests after SIGTERM
_OTHERS = ("OTEL_", "TIDEGATE_", "SENTRY_", "ELASTIC_APM_", "LOGFIRE_", "BENCH_", "FASTAPI_")


class BenchError(Exception):
    """Nothing can be measured; the message says why and what to do."""


def cores() -> tuple[int, int]:
    """The core of what is measured, and the core of everything else.

    Raises:
        BenchError: this process may use one core only.
    """
    have = sorted(os.sched_getaffinity(0))
    if len(have) < 2:
        raise BenchError(
            "two cores are needed, one for the server and one for its clients; "
            "this machine gives one"
        )
    return have[0], have[1]


class Child:
    """A process of the bench. Its output is read all the time, as a container engine would."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        core: int,
        keep: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.began = time.perf_counter()
        leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self._popen = subprocess.Popen(
            [*leash, *command],
            cwd=ROOT,
            env=_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C ends the bench, and the bench ends this
        )
        os.sched_setaffinity(self._popen.pid, {core})
        self.output: deque[bytes] = deque(maxlen=_KEPT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        rest = b""
        while chunk := os.read(self._popen.stdout.fileno(), 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            self.output.extend(lines)
        self.output.append(rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it at once and collect it, whatever state it is in."""
        self._popen.kill()
        self.wait()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def pause(self) -> None:
        """Hold it still: no thread of it runs until :meth:`resume`."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run."""
        self._popen.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes does."""
        self._popen.terminate()

    def wait(self, seconds: float = 60) -> int:
        """Wait until it has ended and all its output was read; return its exit code."""
        code = self._popen.wait(seconds)
        self._reader.join()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()
        return code

    def rss(self) -> float:
        """Resident memory, in MiB."""
        status = Path(f"/proc/{self._popen.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def until(self, done: Callable[[], bool], seconds: float = 60, pause: float = 0.002) -> None:
        """Wait for ``done``.

        Raises:
            BenchError: the process ended, or the time did.
        """
        deadline = time.monotonic() + seconds
        while not done():
            code = self._popen.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else f"took over {seconds:.0f} s"
                last = b"\n".join(list(self.output)[-8:]).decode(errors="replace")
                raise BenchError(f"{self.name} {why}. Its last words:\n{last}")
            time.sleep(pause)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        # All traffic is local, and a proxy would take it away.
        if not name.startswith(_OTHERS) and not name.lower().endswith("_proxy")
    }
    # As in the image; and installed plugins of pydantic (logfire has one) are no part of a row.
    return {**kept, "PYTHONUNBUFFERED": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__", **own}


class Server(Child):
    """A row, served: ours by `tidegate serve`, the others by uvicorn."""

    def __init__(self, row: Row, sink: str, core: int, extra: Mapping[str, str]) -> None:
        self.row = row
        self.port, self.admin_port = free_ports(2)
        environment = row_environment(row, sink) | {
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_ADMIN_PORT": str(self.admin_port),
            **extra,
        }
        super().__init__(row.name, self._command(), environment, core)

    def _command(self) -> list[str]:
        if self.row.ours:
            return [sys.executable, "-m", "tidegate.cli", "serve", "bench.served:app"]
        command = [sys.executable, "-m", "uvicorn", "bench.served:app", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools"]
        return command if self.row.access_log else [*command, "--no-access-log"]

    def until_answering(self) -> float:
        """Wait for the first 200; return the seconds since the process began."""
        self.until(lambda: answers(self.port))
        return time.perf_counter() - self.began


def row_environment(row: Row, sink: str) -> dict[str, str]:
    """The environment of a row, with the addresses of the sink filled in."""
    own = f"{sink}/{row.name}"
    sentry = own.replace("http://", "http://key@") + "/1"
    values = {name: v.format(sink=own, sentry=sentry) for name, v in row.environment.items()}
    if row.wiring == "logfire":
        values["PYDANTIC_DISABLE_PLUGINS"] = ""
    return {"BENCH_WIRING": row.wiring, **values}


def answers(port: int, *, with_any: bool = False) -> bool:
    """Whether a request is answered with 200, or with any status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status == 200 or with_any
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
