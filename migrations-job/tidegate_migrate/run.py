"""What a run works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate_migrate.ending import Ending
from tidegate_migrate.place import Place
from tidegate_migrate.progress import Progress
from tidegate_migrate.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from tidegate.schema import Manifest


@dataclass(frozen=True, slots=True)
class Run:
    """What a run works with. ``connection`` holds the lock, as the server's ``backend``.

    ``manifest`` gives the phases as the history is to know them.
    """

    settings: Settings
    manifest: Manifest
    connection: psycopg.Connection
    backend: int
    place: Place
    progress: Progress
    say: Callable[[str], None]
    ending: Ending
