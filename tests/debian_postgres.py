"""Debian's own PostgreSQL: an older server than the embedded one, built by somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.cluster.debian import unpacked


@contextmanager
def debian_postgres(directory: Path) -> Iterator[str]:
    """Run a fresh server on ``directory``, on a socket there only; yield its URL.

    The path of ``directory`` must be open to other users: PostgreSQL refuses to be root.
    """
    program = unpacked("postgresql-debian").readable_by_all(directory / "program")
    binaries, data = program.path.parent, directory / "data"
    data.mkdir()
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        directory.chmod(0o755)
        shutil.chown(data, user)

    def run(*command: str | Path) -> None:
        log = directory / "log"
        with log.open("ab") as output:
            ended = subprocess.run(
                command,
                cwd=data,
                user=user,
                env=os.environ | program.environment | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert ended.returncode == 0, f"{command} failed:\n{log.read_text(errors='replace')}"

    run(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
    settings = f"-k {data} -c listen_addresses= -c fsync=off"
    server: list[str | Path] = [binaries / "pg_ctl", "-D", data, "-w", "-t", "60"]
    run(*server, "-o", settings, "-l", data / "server.log", "start")
    try:
        yield f"postgresql://postgres@/postgres?{urlencode({'host': str(data)})}"
    finally:
        run(*server, "-m", "immediate", "stop")
