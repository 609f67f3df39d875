"""Running a program to its end, with its last words in the error when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import ClusterError


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    hint: str = "",
    lines: int = 5,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run it and give what it prints; `what` and `hint` frame its last `lines` in the error."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        tail = "\n".join(ended.stdout.strip().splitlines()[-lines:])
        raise ClusterError(f"{what} failed:\n{tail}\n{hint}".rstrip())
    return ended.stdout
