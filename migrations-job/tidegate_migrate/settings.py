"""What a run needs to know, from the command line and the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate_migrate.plan import Scope


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's settings. Time-outs are in seconds.

    ``url`` is the direct one as libpq reads it, ``written_url`` the same as the environment
    has it: with the driver that an env.py may need.
    """

    config_file: Path
    url: str
    written_url: str
    image: str = ""
    scope: Scope = Scope.EXPAND
    nobody_runs_older: bool = False
    lock_timeout: float = 60.0
    connect_timeout: float = 60.0
