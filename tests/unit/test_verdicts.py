"""The six verdicts, over thousands of generated histories, against their table read aloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from hypothesis import HealthCheck, given, settings

from tests.graphs import World, worlds
from tidegate.schema import Phase, Verdict, compare, judge

many = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_the_verdict_is_what_the_table_says() -> None:
    met: Counter[Verdict] = Counter()

    @many
    @given(worlds())
    def judged(world: World) -> None:
        verdict = judge(compare(world.manifest, world.database))
        assert verdict is by_the_table(world, visible(world))
        met[verdict] += 1

    judged()
    assert set(met) == set(Verdict), "the histories are too much alike"


@settings(many, max_examples=500)
@given(worlds(all_rows=True))
def test_with_all_rows_the_verdict_is_about_all_that_is_applied(world: World) -> None:
    assert visible(world) == world.applied
    assert judge(compare(world.manifest, world.database)) is by_the_table(world, world.applied)


@settings(many, max_examples=500)
@given(worlds())
def test_no_new_pod_serves_on_what_nobody_can_describe(world: World) -> None:
    verdict = judge(compare(world.manifest, world.database))
    if (world.applied - world.shipped) - world.rows:
        assert not verdict.permits_serving


def by_the_table(world: World, applied: frozenset[str]) -> Verdict:
    """The first line that holds, the most severe first: K is shipped, A is applied."""
    k, a = world.shipped, applied

    def is_contract(name: str) -> bool:
        return world.revisions[name].phase is Phase.CONTRACT

    lines: dict[Verdict, Callable[[], bool]] = {
        Verdict.AHEAD_INCOMPATIBLE: lambda: any(
            is_contract(name) for name in a if name not in k and name in world.rows
        ),
        Verdict.UNKNOWN: lambda: any(name not in world.rows for name in a if name not in k),
        Verdict.BEHIND: lambda: any(not is_contract(name) for name in k if name not in a),
        Verdict.AHEAD_COMPATIBLE: lambda: any(name not in k for name in a),
        Verdict.CONTRACT_PENDING: lambda: any(name not in a for name in k),
        Verdict.CURRENT: lambda: a == k,
    }
    return next(verdict for verdict, holds in lines.items() if holds())


def visible(world: World) -> frozenset[str]:
    """Return A as the two tables show it: a revision without a row hides what it builds on."""

    def paths(name: str) -> Iterator[str]:
        yield name
        if name in world.shipped or name in world.rows:
            for below in world.revisions[name].down:
                yield from paths(below)

    return frozenset(name for head in world.database.heads for name in paths(head))
