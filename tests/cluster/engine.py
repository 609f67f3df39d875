"""Is there a container engine on this machine that answers?"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


@cache
def container_engine() -> str:
    """`docker` or `podman`, whichever has an engine that answers, else nothing.

    A client alone says nothing: on many machines `docker` is installed and no engine runs.
    """
    for client in ("docker", "podman"):
        if shutil.which(client) is None:
            continue
        try:
            answer = subprocess.run([client, "info"], capture_output=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        # docker's client answers "info" about itself, with exit code 0 in some versions.
        if answer.returncode == 0 and b"Cannot connect" not in answer.stdout + answer.stderr:
            return client
    return ""
