"""Which revisions a run applies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_schema import World, worlds
from tidegate.schema import (
    Applied,
    Failure,
    Manifest,
    Phase,
    Revision,
    Verdict,
    compare,
    judge,
)
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.plan import Plan, Scope, decide, make_plan


@given(worlds(all_rows=True))
def test_an_expand_run_applies_every_expand_revision_that_no_contract_one_holds_back(
    world: World,
) -> None:
    difference = compare(world.manifest, world.database)
    plan = make_plan(world.manifest, difference, Scope.EXPAND)
    assert all(difference.pending[name] is Phase.EXPAND for name in plan.revisions)
    expand = {name for name, phase in difference.pending.items() if phase is Phase.EXPAND}
    assert plan.revisions | plan.blocked.keys() == expand
    assert not plan.revisions & plan.blocked.keys()
    assert all(difference.pending[name] is Phase.CONTRACT for name in plan.blocked.values())


@given(worlds(all_rows=True))
def test_a_plan_is_closed_downwards_and_its_targets_reach_all_of_it(world: World) -> None:
    difference = compare(world.manifest, world.database)
    for scope in Scope:
        plan = make_plan(world.manifest, difference, scope)
        reached: set[str] = set()
        open_ends = list(plan.targets(world.manifest))
        while open_ends:
            name = open_ends.pop()
            if name in difference.pending:
                reached.add(name)
                open_ends.extend(world.manifest.revisions[name].down)
        assert reached == plan.revisions


def test_an_expand_revision_above_a_contract_one_is_blocked_by_it() -> None:
    manifest = Manifest.of(
        [
            Revision("1"),
            Revision("2", Phase.CONTRACT, ("1",)),
            Revision("3", Phase.EXPAND, ("2",)),
        ]
    )
    difference = compare(manifest, Applied(frozenset({"1"})))
    assert make_plan(manifest, difference, Scope.EXPAND) == Plan(blocked={"3": "2"})
    assert make_plan(manifest, difference, Scope.CONTRACT) == Plan(frozenset({"2"}))
    assert make_plan(manifest, difference, Scope.ALL) == Plan(frozenset({"2", "3"}))


@given(worlds(), st.sampled_from(Scope))
def test_no_contract_revision_is_planned_where_something_older_may_run_and_nobody_said_no(
    world: World, scope: Scope
) -> None:
    try:
        plan = decide(world.manifest, world.database, scope, nobody_runs_older=False)
    except MigrateError:
        return
    phases = {world.revisions[name].phase for name in plan.revisions}
    assert Phase.CONTRACT not in phases or not (world.applied or world.rows)


@given(worlds(), st.sampled_from(Scope), st.booleans())
def test_a_run_never_begins_on_a_schema_that_the_image_may_not_work_with(
    world: World, scope: Scope, consent: bool
) -> None:
    verdict = judge(compare(world.manifest, world.database))
    if verdict in {Verdict.AHEAD_INCOMPATIBLE, Verdict.UNKNOWN}:
        with pytest.raises(MigrateError) as refused:
            decide(world.manifest, world.database, scope, nobody_runs_older=consent)
        assert refused.value.failure is Failure.INCOMPATIBLE
        assert refused.value.revision in world.applied - world.shipped
