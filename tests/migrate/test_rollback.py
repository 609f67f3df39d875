"""Which images a rollback is safe to, over generated histories: the verdict has the last word."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings

from tests.graphs import World, worlds
from tidegate.schema import Applied, Manifest, Phase, Revision, Verdict, compare, judge
from tidegate_migrate.plan import Scope, decide
from tidegate_migrate.rollback import done, needed, without_row

_REFUSED = {Verdict.AHEAD_INCOMPATIBLE, Verdict.UNKNOWN}


@settings(max_examples=2000)
@given(worlds())
def test_an_image_may_be_rolled_back_to_exactly_if_it_ships_what_is_needed(world: World) -> None:
    shipped = needed(world.manifest, world.database)
    verdict = judge(compare(world.manifest_of(world.older), world.database))
    assert (verdict not in _REFUSED) == (set(shipped) <= world.older)


@settings(max_examples=2000)
@given(worlds())
def test_what_a_half_done_contract_revision_dropped_counts_as_applied(world: World) -> None:
    begun = {
        name: revision
        for name, revision in world.revisions.items()
        if name not in world.applied and world.applied.issuperset(revision.down)
    }
    database = replace(world.database, begun=begun)
    older = world.manifest_of(world.older)
    verdict = judge(compare(older, database))
    assert (verdict not in _REFUSED) == (set(needed(world.manifest, database)) <= world.older)
    if {name for name, each in begun.items() if each.phase is Phase.CONTRACT} - world.older:
        assert verdict is Verdict.AHEAD_INCOMPATIBLE
    assert compare(older, database).pending == compare(older, world.database).pending


@settings(max_examples=2000)
@given(worlds(all_rows=True))
def test_what_is_needed_after_a_plan_is_what_is_needed_once_it_is_applied(world: World) -> None:
    assume(world.applied <= world.shipped)
    plan = decide(world.manifest, world.database, Scope.ALL, nobody_runs_older=True)
    before = needed(world.manifest, world.database, plan.revisions)
    applied = world.applied | plan.revisions
    assert before == needed(world.manifest, world.database_of(applied, applied))


def test_an_expand_revision_takes_no_image_away_and_a_contract_one_those_without_it() -> None:
    manifest = Manifest.of(
        [
            Revision("1"),
            Revision("2", Phase.EXPAND, ("1",)),
            Revision("3", Phase.CONTRACT, ("2",)),
            Revision("4", Phase.CONTRACT, ("3",)),
        ]
    )
    database = Applied.of(["1"], [("1", "expand", [])])
    assert needed(manifest, database, {"2"}) == ()
    assert needed(manifest, database, {"2", "3"}) == ("3",)
    assert needed(manifest, database, {"2", "3", "4"}) == ("4",)  # with it comes the other


def test_a_revision_without_a_row_keeps_every_image_away_that_does_not_ship_it() -> None:
    manifest = Manifest.of([Revision("1"), Revision("2", Phase.EXPAND, ("1",))])
    database = Applied.of(["2"], [("1", "expand", [])])
    assert needed(manifest, database) == without_row(manifest, database) == ("2",)
    assert done(manifest, database) == ("1", "2")
