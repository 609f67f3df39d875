"""To which older images a rollback is safe, now and after a plan, and what is not known. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tidegate.schema import Applied, Manifest, Phase, Revision


def needed(manifest: Manifest, applied: Applied, planned: Collection[str] = ()) -> tuple[str, ...]:
    """Return the topmost revisions that an image has to ship so that a rollback to it is safe.

    With them it ships all that they build on. Empty means: to any image. ``planned`` are shipped
    revisions that are to be applied first.

    A contract revision needs to be shipped, and so does one of which no row of the history says
    what it did: an image that does not know it refuses to serve. A contract revision that is only
    begun has dropped something all the same.
    """
    known = {**applied.history, **applied.begun, **manifest.revisions}
    stops = {
        name
        for name in _with_all_below(known, [*applied.heads, *planned])
        if (row := (manifest.revisions if name in planned else applied.history).get(name)) is None
        or row.phase is Phase.CONTRACT
    } | applied.half_contracted
    below = _with_all_below(known, [down for n in stops if n in known for down in known[n].down])
    return tuple(sorted(stops - below))


def without_row(manifest: Manifest, applied: Applied) -> tuple[str, ...]:
    """Return the applied revisions of which the history says nothing, from the base up."""
    return tuple(name for name in done(manifest, applied) if name not in applied.history)


def done(manifest: Manifest, applied: Applied) -> tuple[str, ...]:
    """Return all applied revisions, from the base up; those that are not shipped come last."""
    found = _with_all_below({**applied.history, **manifest.revisions}, applied.heads)
    strangers = sorted(found - manifest.revisions.keys())
    return (*(name for name in manifest.revisions if name in found), *strangers)


def _with_all_below(known: Mapping[str, Revision], names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    open_ends = list(names)
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends.extend(known[name].down if name in known else ())
    return found
