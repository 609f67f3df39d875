"""A real server that speaks S3, with one bucket."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.toolchain import binary

ACCESS_KEY, SECRET_KEY, BUCKET = "tidegate", "tidegate-secret", "uploads"


@dataclass(frozen=True)
class S3Server:
    """Where it is, and where it keeps what it was sent."""

    url: str
    folder: Path


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Run the gateway on a folder; the first run builds it (a minute)."""
    program = binary("versitygw")
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    kept, sidecar, log = folder / "kept", folder / "sidecar", folder / "s3.log"
    (kept / BUCKET).mkdir(parents=True)
    sidecar.mkdir()
    command: list[str | Path] = [program, "--port", f"127.0.0.1:{port}", "--access", ACCESS_KEY]
    command += ["--secret", SECRET_KEY, "--quiet"]
    # Not every file system here has extended attributes.
    command += ["posix", "--sidecar", sidecar, kept]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _until_open(port, process, log)
        yield S3Server(f"http://127.0.0.1:{port}", kept / BUCKET)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the S3 server does not answer; it said:\n{log.read_text()}")
