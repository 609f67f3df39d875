"""Which revisions a run applies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.graphs import World, worlds
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
from tidegate_migrate.instances import Instance
from tidegate_migrate.plan import Plan, Scope, decide, make_plan, targets

many = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
witnesses = st.lists(st.frozensets(st.integers(0, 9), max_size=4), max_size=4)


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
        open_ends = list(targets(world.manifest, plan.revisions))
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


@many
@given(worlds(all_rows=True), st.sampled_from(Scope), st.booleans())
def test_what_a_run_applies_is_closed_downwards(world: World, scope: Scope, consent: bool) -> None:
    plan = decided(world, scope, nobody_runs_older=consent)
    if plan:
        assert plan.revisions == world.closed(plan.revisions) - world.applied
        assert plan.revisions <= world.shipped - world.applied


@many
@given(worlds(all_rows=True))
def test_an_expand_run_takes_the_schema_from_no_image_that_could_serve_on_it(world: World) -> None:
    plan = decided(world, Scope.EXPAND)
    if plan is None or not world.applied:
        return
    older = world.manifest_of(world.older)
    after = world.applied | plan.revisions
    if judge(compare(older, world.database)).permits_serving:
        left = compare(older, world.database_of(after, world.rows | after))
        assert judge(left).permits_serving
    assert not plan.guarded


@many
@given(worlds(all_rows=True))
def test_a_skipped_release_gets_what_is_free_and_is_told_which_one_to_go_through_first(
    world: World,
) -> None:
    plan = decided(world, Scope.EXPAND)
    if plan is None or not world.applied:
        return
    pending = world.shipped - world.applied
    below = {name: world.closed([name]) & pending for name in pending}
    free = {name for name in pending if not contract(world, below[name])}
    held_back = {name for name in pending - free if world.revisions[name].phase is Phase.EXPAND}
    assert plan.revisions == free
    assert plan.blocked.keys() == held_back
    assert (plan.refusal is not None) == bool(held_back)
    if plan.refusal is None:
        return
    assert plan.refusal.failure is Failure.INCOMPATIBLE
    assert plan.refusal.revision in contract(world, pending)
    # The release that it names can be released, and one thing fewer stands in the way then.
    between = world.applied | free | world.closed([plan.refusal.revision])
    on_the_way = replace(world, shipped=between, applied=world.applied | free)
    assert decided(on_the_way, Scope.EXPAND) == Plan()
    last = decided(on_the_way, Scope.CONTRACT, nobody_runs_older=True)
    assert last is not None
    assert last.revisions == between - on_the_way.applied
    assert last.refusal is None
    then = replace(world, applied=between, rows=world.rows | between)
    again = decided(then, Scope.EXPAND)
    assert again is not None
    assert again.blocked.keys() <= plan.blocked.keys()
    assert plan.refusal.revision not in again.blocked.values()


@many
@given(worlds(all_rows=True))
def test_where_nothing_older_runs_every_expand_revision_can_be_applied(world: World) -> None:
    plan = decided(world, Scope.EXPAND, nobody_runs_older=True)
    if plan is None or not world.applied:
        return
    pending = world.shipped - world.applied
    assert plan.revisions == world.closed(pending - contract(world, pending)) & pending
    assert (plan.refusal, plan.guarded) == (None, frozenset())


@many
@given(worlds(all_rows=True), witnesses, st.sampled_from([Scope.CONTRACT, Scope.ALL]))
def test_a_contract_revision_waits_for_every_process_that_does_not_ship_it(
    world: World, runs: list[frozenset[int]], scope: Scope
) -> None:
    images = [world.closed(f"r{n}" for n in heads if f"r{n}" in world.revisions) for heads in runs]
    running = [process(f"shop-{n}", world.manifest_of(each)) for n, each in enumerate(images)]
    plan = decided(world, scope, witnesses=running)
    if plan is None or not world.applied:
        return
    known = [world.closed(each.heads & world.shipped) for each in running]
    for name in contract(world, plan.revisions):
        assert running
        assert all(name in ships for ships in known)
        assert name in plan.guarded
    asked = contract(world, world.shipped - world.applied)
    assert asked <= plan.revisions | plan.blocked.keys()


def test_of_a_line_the_free_beginning_is_applied_and_the_rest_refused() -> None:
    manifest = Manifest.of(
        [
            Revision("1"),
            Revision("2", Phase.EXPAND, ("1",)),
            Revision("3", Phase.CONTRACT, ("2",)),
            Revision("4", Phase.CONTRACT, ("3",)),
            Revision("5", Phase.EXPAND, ("4",)),
        ]
    )
    database = Applied(frozenset({"1"}))
    plan = decide(manifest, database, Scope.EXPAND)
    assert plan.revisions == {"2"}
    assert plan.refusal
    assert "expand revision 5 builds on contract revision 4" in plan.refusal.message
    assert "release 4 first" in plan.refusal.hint
    plan = decide(manifest, Applied(frozenset({"2"})), Scope.EXPAND)
    assert plan.refusal
    assert not plan.revisions
    plan = decide(manifest, database, Scope.EXPAND, nobody_runs_older=True)
    assert plan == Plan(frozenset({"2", "3", "4", "5"}))


def test_of_all_that_is_pending_what_breaks_nobody_is_applied_and_the_rest_refused() -> None:
    manifest = Manifest.of(
        [
            Revision("1"),
            Revision("2", Phase.EXPAND, ("1",)),
            Revision("3", Phase.CONTRACT, ("2",)),
            Revision("4", Phase.CONTRACT, ("3",)),
        ]
    )
    running = [process("new", manifest), Instance("old", frozenset({"3"}), "shop:1", 99, 99, 1)]
    plan = decide(manifest, Applied(frozenset({"1"})), Scope.ALL, witnesses=running)
    assert plan.revisions == {"2", "3"}
    assert plan.guarded == {"3"}
    assert plan.refusal
    assert "old (image shop:1" in plan.refusal.message
    assert plan.refusal.revision == "4"


def test_an_empty_database_gets_everything_and_no_witness_is_asked() -> None:
    manifest = Manifest.of([Revision("1"), Revision("2", Phase.CONTRACT, ("1",))])
    everything = Plan(frozenset({"1", "2"}), empty=True)
    assert decide(manifest, Applied(), Scope.EXPAND, empty=True) == everything
    assert decide(manifest, Applied(), Scope.EXPAND).revisions == {"1"}  # tables, but no version


@given(worlds(), st.sampled_from(Scope))
def test_no_contract_revision_is_planned_where_something_older_may_run_and_nobody_tells(
    world: World, scope: Scope
) -> None:
    plan = decided(world, scope)
    if plan:
        assert not contract(world, plan.revisions)


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


def decided(
    world: World,
    scope: Scope,
    *,
    witnesses: Sequence[Instance] = (),
    nobody_runs_older: bool = False,
) -> Plan | None:
    """Return the plan; None where the image cannot go on from what the database holds."""
    try:
        return decide(
            world.manifest,
            world.database,
            scope,
            witnesses=witnesses,
            nobody_runs_older=nobody_runs_older,
        )
    except MigrateError:
        assert world.applied - world.shipped
        return None


def process(name: str, ships: Manifest) -> Instance:
    """A service process that has run for ever and was just seen."""
    return Instance(name, ships.heads, "shop:1", 9999, 9999, 1)


def contract(world: World, names: Iterable[str]) -> set[str]:
    """Those of the names that are contract revisions."""
    return {name for name in names if world.revisions[name].phase is Phase.CONTRACT}
