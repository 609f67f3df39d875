"""What a run has done so far, so that one that breaks off can still report it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.schema import AppliedRevision


@dataclass(slots=True)
class Progress:
    """``planned`` and ``applied`` revisions, and the one that is ``running``, "" for none.

    ``waiting`` names who stands in its way, "" for nobody. ``locked`` maps the tables that it
    keeps others from to the lock's name and to when it was first seen, by ``time.monotonic()``.
    """

    planned: frozenset[str] = frozenset()
    applied: dict[str, AppliedRevision] = field(default_factory=dict)
    running: str = ""
    waiting: str = ""
    locked: Mapping[str, tuple[str, float]] = field(default_factory=dict)
