"""Generated revision histories: all there are, what an image ships, what a database holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from tidegate.schema import Applied, Manifest, Phase, Revision


@dataclass(frozen=True)
class World:
    """All revisions, those that an image ships, those that a database has, and its rows.

    ``older`` is what another image ships.
    """

    revisions: Mapping[str, Revision]
    shipped: frozenset[str]
    applied: frozenset[str]
    rows: frozenset[str]
    older: frozenset[str]

    @property
    def manifest(self) -> Manifest:
        """What the image ships."""
        return self.manifest_of(self.shipped)

    @property
    def database(self) -> Applied:
        """What the database's two tables hold."""
        return self.database_of(self.applied, self.rows)

    def manifest_of(self, shipped: Iterable[str]) -> Manifest:
        """What an image with these revisions ships."""
        return Manifest.of(self.revisions[name] for name in sorted(shipped))

    def database_of(self, applied: frozenset[str], rows: Iterable[str]) -> Applied:
        """What a database with these revisions and these rows holds."""
        below = {down for name in applied for down in self.revisions[name].down}
        return Applied(applied - below, {name: self.revisions[name] for name in rows})

    def closed(self, names: Iterable[str]) -> frozenset[str]:
        """Return the revisions and all that they build on."""
        return close(self.revisions, names)


def close(revisions: Mapping[str, Revision], names: Iterable[str]) -> frozenset[str]:
    """Return the names and all that they build on."""
    found: set[str] = set()
    open_ends = list(names)
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends.extend(revisions[name].down)
    return frozenset(found)


_SIZE = 9

# For each revision: its phase, and how far back the up to three lie that it builds on, 0 for none.
# Most are lines; the second is a merge or a branch that begins early, the third a depends_on.
_links = st.tuples(
    st.booleans(),
    st.sampled_from([1, 1, 1, 1, 2, 3, 0]),
    st.sampled_from([0, 0, 0, 0, 2, 3, 5]),
    st.sampled_from([0, 0, 0, 0, 0, 2, 4]),
)
# One or two revisions, counted from 1, that something reaches up to; 0 for none.
_tops = st.tuples(st.sampled_from(range(_SIZE + 1)), st.sampled_from([0, 0, 0, 1, 3, 5, 7]))
_some = st.integers(0, 2**_SIZE - 1)
_histories = st.sampled_from(range(_SIZE + 1)).flatmap(
    lambda size: st.lists(_links, min_size=size, max_size=size)
)


@st.composite
def worlds(draw: st.DrawFn, *, all_rows: bool = False) -> World:
    """Lines, branches, merges, dependencies and several bases, with a contract step anywhere.

    What images ship and what a database has is closed downwards. Often the image ships all that
    is applied, and more; else each is a matter of its own: releases are rolled back and diverge.
    Rows may be missing (never, with ``all_rows``), or be left behind by a downgrade.
    """
    revisions: dict[str, Revision] = {}
    for index, (contract, *distances) in enumerate(draw(_histories)):
        down = {f"r{index - distance}" for distance in distances if 0 < distance <= index}
        phase = Phase.CONTRACT if contract else Phase.EXPAND
        revisions[f"r{index}"] = Revision(f"r{index}", phase, tuple(sorted(down)))

    def up_to_some() -> frozenset[str]:
        tops = [f"r{(top - 1) % len(revisions)}" for top in draw(_tops) if top and revisions]
        return close(revisions, tops)

    shipped, applied, older = up_to_some(), up_to_some(), up_to_some()
    if draw(st.booleans()):
        shipped |= applied
    chosen = draw(_some)
    rows = frozenset(name for index, name in enumerate(revisions) if chosen >> index & 1)
    return World(revisions, shipped, applied, rows | applied if all_rows else rows, older)
