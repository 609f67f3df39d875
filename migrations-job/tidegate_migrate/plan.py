"""Which pending revisions a run applies, or why it must not run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from graphlib import TopologicalSorter

from tidegate.schema import (
    UNFINISHED_TABLE,
    Applied,
    Difference,
    Failure,
    Manifest,
    Phase,
    Verdict,
    compare,
    judge,
)
from tidegate_migrate import guard
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.instances import Instance

__all__ = ["Plan", "Scope", "decide", "make_plan", "targets"]


class Scope(StrEnum):
    """Which phases a run may apply."""

    EXPAND = "expand"
    CONTRACT = "contract"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """The revisions to apply now, and what is to be said of the others afterwards.

    ``revisions`` is closed downwards: with a revision come all pending ones it builds on.
    ``blocked`` maps a revision that the scope asks for to the one that stands in its way: itself,
    or one that it builds on. ``refusal`` says so in words; the run fails with it once
    ``revisions`` are applied. ``guarded`` are the contract revisions among them for which
    :func:`tidegate_migrate.guard.check` must be asked once more, right before each. ``empty``
    tells that nobody can be hurt, so that lint is not asked either.
    """

    revisions: frozenset[str] = frozenset()
    blocked: Mapping[str, str] = field(default_factory=dict)
    refusal: MigrateError | None = None
    guarded: frozenset[str] = frozenset()
    empty: bool = False


def targets(manifest: Manifest, revisions: frozenset[str]) -> tuple[str, ...]:
    """Return the topmost of planned revisions: what Alembic is asked to upgrade to."""
    below = {down for name in revisions for down in manifest.revisions[name].down}
    return tuple(sorted(revisions - below))


def decide(
    manifest: Manifest,
    applied: Applied,
    scope: Scope,
    *,
    witnesses: Sequence[Instance] = (),
    nobody_runs_older: bool = False,
    empty: bool = False,
) -> Plan:
    """Plan a run: what it applies, and what it refuses then.

    Args:
        witnesses: the service processes that report to this database; needed where the scope
            asks for contract revisions.
        nobody_runs_older: a person's word that no older image runs; no witness is asked then.
        empty: the database has no tables, so that no older image can be running against it.

    Raises:
        MigrateError: ``incompatible``: the database holds what this image cannot go on from.
    """
    difference = compare(manifest, applied)
    _refuse_what_is_ahead(difference, applied)
    if empty:
        return Plan(frozenset(difference.pending), empty=True)
    contract = {name for name, phase in difference.pending.items() if phase is Phase.CONTRACT}
    objections: Mapping[str, MigrateError] = {}
    if scope is not Scope.EXPAND and not nobody_runs_older:
        objections = guard.objections(witnesses, manifest, contract)
    plan = make_plan(
        manifest,
        difference,
        scope,
        objectionable=objections.keys(),
        nobody_runs_older=nobody_runs_older,
    )
    lacking = plan.revisions | plan.blocked.keys()
    if difference.ahead and lacking:
        raise _diverged(min(difference.ahead), min(lacking))
    if plan.blocked:
        first = next(
            name for name in _base_up(manifest, difference.pending) if name in plan.blocked
        )
        refusal = objections.get(plan.blocked[first]) or _wrong_order(
            difference, first, plan.blocked[first], scope
        )
        plan = replace(plan, refusal=refusal)
    return plan if nobody_runs_older else replace(plan, guarded=plan.revisions & contract)


def make_plan(
    manifest: Manifest,
    difference: Difference,
    scope: Scope,
    *,
    objectionable: Collection[str] = (),
    nobody_runs_older: bool = False,
) -> Plan:
    """Choose among the pending revisions those that the scope allows and nobody objects to.

    Where nothing older runs, expand revisions bring the contract ones with them that they build on.
    """
    pending = difference.pending
    phases = set(Phase) if scope is Scope.ALL else {Phase(scope.value)}
    asked = [name for name, phase in pending.items() if phase in phases]
    if scope is Scope.EXPAND and nobody_runs_older:
        phases = set(Phase)
    order = _base_up(manifest, pending)
    place = {name: number for number, name in enumerate(order)}
    stop: dict[str, str] = {}
    for name in order:
        in_the_way = [stop[below] for below in manifest.revisions[name].down if below in stop]
        if pending[name] not in phases or name in objectionable:
            in_the_way.append(name)
        if in_the_way:  # the topmost: with it come those below
            stop[name] = max(in_the_way, key=place.__getitem__)
    chosen = {name for name in asked if name not in stop}
    for name in reversed(order):
        if name in chosen:
            chosen.update(below for below in manifest.revisions[name].down if below in pending)
    return Plan(frozenset(chosen), {name: stop[name] for name in asked if name in stop})


def _refuse_what_is_ahead(difference: Difference, applied: Applied) -> None:
    verdict = judge(difference)
    if verdict is Verdict.AHEAD_INCOMPATIBLE:
        blocking = next(name for name, phase in difference.ahead.items() if phase is Phase.CONTRACT)
        begun = blocking in applied.begun
        raise MigrateError(
            Failure.INCOMPATIBLE,
            f"the database holds {'a part of ' if begun else ''}contract revision {blocking}, "
            "which this image does not ship",
            hint=f"release an image that ships {blocking}"
            + (
                f", which finishes it; or undo by hand what it did, and delete its row from "
                f"{UNFINISHED_TABLE}"
                if begun
                else ""
            ),
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


def _diverged(ahead: str, pending: str) -> MigrateError:
    return MigrateError(
        Failure.INCOMPATIBLE,
        f"the database holds revision {ahead}, which this image does not ship, "
        f"and lacks {pending}, which it does",
        hint="merge the two branches (`alembic merge`) and release that",
        revision=ahead,
    )


def _wrong_order(difference: Difference, above: str, below: str, scope: Scope) -> MigrateError:
    return MigrateError(
        Failure.INCOMPATIBLE,
        f"{difference.pending[above]} revision {above} builds on {difference.pending[below]} "
        f"revision {below}, which is pending",
        hint="run `tidegate migrate up` first, or take --phase all"
        if scope is Scope.CONTRACT
        else f"release {below} first (an image that ends there), and this one when its contract "
        "revisions are applied; if no older image runs, add --nobody-runs-older",
        revision=below,
    )


def _base_up(manifest: Manifest, pending: Mapping[str, Phase]) -> list[str]:
    """Return the pending revisions so that none comes before one that it builds on."""
    downs = {
        name: [below for below in manifest.revisions[name].down if below in pending]
        for name in pending
    }
    height: dict[str, int] = {}
    for name in TopologicalSorter(downs).static_order():
        height[name] = 1 + max((height[below] for below in downs[name]), default=0)
    return sorted(pending, key=lambda name: (height[name], name))
