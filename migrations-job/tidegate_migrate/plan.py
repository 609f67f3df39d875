"""Which pending revisions a run applies, or why it must not run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tidegate.schema import Applied, Difference, Failure, Manifest, Phase, Verdict, compare, judge
from tidegate_migrate.failure import MigrateError

__all__ = ["Plan", "Scope", "decide", "make_plan"]


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


def decide(manifest: Manifest, applied: Applied, scope: Scope, *, nobody_runs_older: bool) -> Plan:
    """Plan a run, or refuse it.

    Raises:
        MigrateError: ``incompatible``, with what stands in the way.
    """
    difference = compare(manifest, applied)
    _refuse_what_is_ahead(difference)
    if not applied.heads and not applied.history:
        # Nothing was ever applied here, so no older image can be running against it.
        scope = Scope.ALL
    elif scope is not Scope.EXPAND and not nobody_runs_older:
        raise MigrateError(
            Failure.INCOMPATIBLE,
            "contract revisions break every image that does not ship them",
            hint="when no older image runs any more, add --nobody-runs-older",
        )
    plan = make_plan(manifest, difference, scope)
    if plan.blocked:
        above, below = sorted(plan.blocked.items())[0]
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"{difference.pending[above]} revision {above} builds on {below}, "
            f"a {difference.pending[below]} revision that is pending",
            hint="run `tidegate migrate up` first, or take --phase all"
            if scope is Scope.CONTRACT
            else f"release {below} first (an image that ends there), then this one",
            revision=below,
        )
    if difference.ahead and plan.revisions:
        ahead, pending = min(difference.ahead), min(plan.revisions)
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"the database holds revision {ahead}, which this image does not ship, "
            f"and lacks {pending}, which it does",
            hint="merge the two branches (`alembic merge`) and release that",
            revision=ahead,
        )
    return plan


def _refuse_what_is_ahead(difference: Difference) -> None:
    verdict = judge(difference)
    if verdict is Verdict.AHEAD_INCOMPATIBLE:
        blocking = next(name for name, phase in difference.ahead.items() if phase is Phase.CONTRACT)
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"the database holds contract revision {blocking}, which this image does not ship",
            hint=f"release an image that ships {blocking}",
            revision=blocking,
        )
    if verdict is Verdict.UNKNOWN:
        stranger = next(name for name, phase in difference.ahead.items() if phase is None)
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"the database holds revision {stranger}, which this image does not ship "
            "and the history does not describe",
            hint=f"release an image that ships {stranger}",
            revision=stranger,
        )


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
