"""The contract guard: does anything older still run? Pure, but for :func:`check`.

A process is older than a contract revision if its image does not ship it; of heads that this
image does not know nobody can say what they ship, so they count as older.

It counts as running for a minute after its last report. A longer silence alone proves nothing:
where the database was away, or its clock was set, everybody was silent. So it is believed only
where another process was heard without a gap through that minute. What nobody can see from here
is a process that was stopped (SIGSTOP, a frozen node) for longer, and wakes up later: it says so
itself then, as the library judges the schema with every report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tidegate.schema import GONE_AFTER, Applied, Failure, Manifest, compare
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.instances import Instance, read
from tidegate_migrate.screen import harmless

if TYPE_CHECKING:
    import psycopg

    from tidegate_migrate.place import Place

_NAMED: Final = 3  # processes that a message names; the others are counted


def check(
    connection: psycopg.Connection, place: Place, manifest: Manifest, revisions: Collection[str]
) -> None:
    """Look who runs now, right before contract ``revisions`` are applied.

    Raises:
        MigrateError: ``incompatible``: something older runs or may run, or nobody can tell.
    """
    for objection in objections(read(connection, place), manifest, revisions).values():
        raise objection


def objections(
    instances: Sequence[Instance], manifest: Manifest, revisions: Collection[str]
) -> Mapping[str, MigrateError]:
    """Return what speaks against each of the pending contract ``revisions``, if anything does."""
    if not instances:
        return {name: _nobody_tells(name) for name in revisions}
    lacking = {
        each.heads: compare(manifest, Applied(each.heads)).pending.keys() for each in instances
    }
    found: dict[str, MigrateError] = {}
    for name in sorted(revisions):
        older = [each for each in instances if name in lacking[each.heads]]
        if running := [each for each in older if each.seen]:
            found[name] = _runs(name, running)
        elif silent := [each for each in older if not _is_gone(each, instances)]:
            found[name] = _may_run(name, silent)
    return found


def _is_gone(silent: Instance, instances: Sequence[Instance]) -> bool:
    """Whether another process was heard all through the minute in which this one could not be."""
    return any(
        each.seen
        and silent.silence - each.silence >= GONE_AFTER
        and each.unbroken - each.silence >= GONE_AFTER
        for each in instances
    )


def _runs(revision: str, running: Sequence[Instance]) -> MigrateError:
    return MigrateError(
        Failure.INCOMPATIBLE,
        f"contract revision {revision} would break what runs: {_listed(running)}",
        hint="wait until these have ended, then run this again (one that crashed counts for a "
        "minute); if none of them runs, add --nobody-runs-older",
        revision=revision,
    )


def _may_run(revision: str, silent: Sequence[Instance]) -> MigrateError:
    return MigrateError(
        Failure.INCOMPATIBLE,
        f"contract revision {revision} would break what may still run: {_listed(silent)}; no "
        "process was heard without a gap for a minute since, so the silence proves nothing",
        hint="run this again when the service has run for two minutes; if none of these runs, "
        "add --nobody-runs-older",
        revision=revision,
    )


def _nobody_tells(revision: str) -> MigrateError:
    return MigrateError(
        Failure.INCOMPATIBLE,
        f"contract revision {revision} breaks every image that does not ship it, and no service "
        "process reports to this database what it ships",
        hint="when no older image runs any more, add --nobody-runs-older",
        revision=revision,
    )


def _listed(instances: Sequence[Instance]) -> str:
    named = [
        f"{each.name} (image {each.image or '?'}, ships up to "
        f"{', '.join(sorted(each.heads)) or 'nothing'}, seen {each.silence:.0f} s ago)"
        for each in instances[:_NAMED]
    ]
    more = len(instances) - len(named)
    return harmless(", ".join(named) + (f" and {more} more" if more else ""))
