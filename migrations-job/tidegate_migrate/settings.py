"""What a run needs to know, from the command line and the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidegate_migrate.plan import Scope


@dataclass(frozen=True, slots=True)
class AlembicOptions:
    """What ``alembic`` itself would be told: the ini file's section, and ``-x`` for env.py."""

    name: str = "alembic"
    x: tuple[str, ...] = ()


NO_OPTIONS: Final = AlembicOptions()
"""What ``alembic`` takes when it is told nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's settings. Time-outs are in seconds.

    ``lock_timeout`` is how long to wait for another runner. ``ddl_lock_timeout`` is how long one
    statement may stand in the queue for a lock, where everybody queues behind it, ``deadline`` how
    long that is tried again for one revision. ``statement_timeout`` holds for the revisions that
    declare no other; 0 means none. ``to`` names the revision to stop at, "" for the heads.

    ``url`` is the direct one as libpq reads it, ``written_url`` the same as the environment
    has it: with the driver that an env.py may need.
    """

    config_file: Path
    url: str
    written_url: str
    image: str = ""
    scope: Scope = Scope.EXPAND
    nobody_runs_older: bool = False
    to: str = ""
    lock_timeout: float = 60.0
    ddl_lock_timeout: float = 2.0
    deadline: float = 120.0
    statement_timeout: float = 30.0
    connect_timeout: float = 60.0
    alembic: AlembicOptions = NO_OPTIONS
