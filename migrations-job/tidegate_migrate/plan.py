"""Which pending revisions a run applies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tidegate.schema import Difference, Manifest, Phase

__all__ = ["Plan", "Scope", "make_plan"]


class Scope(StrEnum):
    """Which phases a run may apply."""

    EXPAND = "expand"
    CONTRACT = "contract"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """The revisions to apply, and those that cannot be.

    ``revisions`` is closed downwards: with a revision come all pending ones it builds on.
    ``blocked`` maps a revision that the scope asks for to the one of the other phase that
    stands below it.
    """

    revisions: frozenset[str] = frozenset()
    blocked: Mapping[str, str] = field(default_factory=dict)

    def targets(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the topmost planned revisions: what Alembic is asked to upgrade to."""
        below = {down for name in self.revisions for down in manifest.revisions[name].down}
        return tuple(sorted(self.revisions - below))


def make_plan(manifest: Manifest, difference: Difference, scope: Scope) -> Plan:
    """Choose among the pending revisions those that the scope allows."""
    pending = difference.pending
    if scope is Scope.ALL:
        return Plan(frozenset(pending))
    wanted = Phase(scope.value)
    chosen: set[str] = set()
    blocked: dict[str, str] = {}
    for name, phase in pending.items():
        if phase is not wanted:
            continue
        below = _pending_ancestry(manifest, pending, name)
        in_the_way = sorted(other for other in below if pending[other] is not wanted)
        if in_the_way:
            blocked[name] = in_the_way[0]
        else:
            chosen |= below
    return Plan(frozenset(chosen), blocked)


def _pending_ancestry(manifest: Manifest, pending: Mapping[str, Phase], name: str) -> set[str]:
    """Return the revision and all pending ones it builds on, directly or not."""
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        current = open_ends.pop()
        if current in pending and current not in found:
            found.add(current)
            open_ends.extend(manifest.revisions[current].down)
    return found
