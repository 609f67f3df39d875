"""One folder in which the workers of a pod keep their metrics, so that each can give the totals.

It must be there before anything imports prometheus_client, so this imports nothing of ours that
does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tidegate.settings import SettingsError

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def metrics_folder() -> Iterator[None]:
    """Have an empty one: what the environment names, else a temporary one of our own.

    Raises:
        SettingsError: the one that the environment names cannot be used.
    """
    given = os.environ.get(VARIABLE)
    folder = Path(given or mkdtemp(prefix="tidegate-metrics-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_behind in folder.glob("*.db"):  # by the processes of an earlier start
            left_behind.unlink()
    except OSError as error:
        raise SettingsError(
            f"{VARIABLE}: {folder} is no folder to write to ({error.strerror}); "
            "name another one, or leave it out"
        ) from None
    os.environ[VARIABLE] = str(folder)
    owner = os.getpid()
    try:
        yield
    finally:
        # Workers are forks of this process and pass here as well.
        if not given and os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
