"""The one shared idea: revisions, phases, verdicts and the report.

Pure and without I/O: plain data in, plain data out. The service's readiness, ``tidegate
migrate``, the migration Job and the operator all decide with :func:`judge`.

Let K be the revisions an image ships and A the revisions applied to a database. Everything
that matters is in two differences: what is *pending* (K without A) and what is *ahead*
(A without K). :func:`compare` computes them, :func:`judge` gives the verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sized
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, ClassVar, Final

__all__ = [
    "GONE_AFTER",
    "HISTORY_TABLE",
    "INSTANCES_TABLE",
    "UNFINISHED_TABLE",
    "Applied",
    "AppliedRevision",
    "Difference",
    "Failure",
    "Manifest",
    "Outcome",
    "Phase",
    "Report",
    "Revision",
    "Verdict",
    "compare",
    "judge",
    "own_table",
]


HISTORY_TABLE: Final = "tidegate_schema_history"
"""Where the runner keeps one row for each applied revision: its id, phase, what it builds on."""

INSTANCES_TABLE: Final = "tidegate_instances"
"""Where each service process keeps one row: which revisions its image ships, when it was seen."""

UNFINISHED_TABLE: Final = "tidegate_unfinished"
"""Where the runner notes how far a revision has come that commits before it is done."""

BEGUN: Final = "SELECT revision, phase, down FROM {} WHERE done > 0 OR begun <> ''"
"""The query for the revisions there of which something is, or may be, committed."""

_LONGEST_NAME: Final = 63  # bytes; PostgreSQL cuts the rest off

GONE_AFTER: Final = 60.0
"""Seconds without a heartbeat after which a process counts as gone."""


class Phase(StrEnum):
    """When a revision may run.

    ``expand`` keeps every older image working; ``contract`` breaks images that do not ship it.
    """

    EXPAND = "expand"
    CONTRACT = "contract"


class Verdict(StrEnum):
    """What an image may do with a database. Members stand from most to least severe."""

    AHEAD_INCOMPATIBLE = "ahead-incompatible"
    UNKNOWN = "unknown"
    BEHIND = "behind"
    AHEAD_COMPATIBLE = "ahead-compatible"
    CONTRACT_PENDING = "contract-pending"
    CURRENT = "current"

    @property
    def permits_serving(self) -> bool:
        """Whether a new pod of the image may start to serve."""
        return self in {Verdict.CURRENT, Verdict.CONTRACT_PENDING, Verdict.AHEAD_COMPATIBLE}


Row = tuple[str, str, Iterable[str]]
"""A revision, its phase and what it builds on, as the runner's tables hold them."""


def own_table(table: str, version_table: str) -> str:
    """Name one of the runner's tables, for the project with this version table ("": Alembic's).

    Each has its own: several projects may share a schema.
    """
    if version_table in {"", "alembic_version"}:
        return table
    name = f"{table}_{version_table}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{table}_{sha256(version_table.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Revision:
    """One Alembic revision: its id, its phase, and the revisions it builds on.

    ``down`` holds ``down_revision`` and ``depends_on`` together: whoever has this revision
    applied has those applied as well.
    """

    id: str
    phase: Phase = Phase.EXPAND
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """K: the revisions an image ships.

    ``version_table`` is where its env.py keeps versions, ``table`` or ``schema.table``; "" is
    Alembic's own name. The history lies beside it, in the same schema.
    """

    revisions: Mapping[str, Revision] = field(default_factory=dict)
    version_table: str = ""

    @classmethod
    def of(cls, revisions: Iterable[Revision]) -> Manifest:
        """Index the revisions by their id."""
        return cls({revision.id: revision for revision in revisions})

    @property
    def heads(self) -> frozenset[str]:
        """The revisions that no other one builds on."""
        below = {down for revision in self.revisions.values() for down in revision.down}
        return frozenset(self.revisions.keys() - below)

    def to_json(self) -> str:
        """Write the manifest as ``tidegate migrate manifest`` does."""
        rows = [
            {"id": revision.id, "phase": revision.phase.value, "down": list(revision.down)}
            for revision in self.revisions.values()
        ]
        where = {"version_table": self.version_table} if self.version_table else {}
        return json.dumps({"version": 1, **where, "revisions": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises:
            ValueError: the text is not a manifest; the message says what is wrong with it.
        """
        try:
            data = json.loads(text)
            shipped = cls.of(
                Revision(str(row["id"]), Phase(row["phase"]), tuple(map(str, row["down"])))
                for row in data["revisions"]
            )
            return replace(shipped, version_table=str(data.get("version_table", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not a schema manifest ({type(error).__name__}: {error}); "
                "write it with `tidegate migrate manifest`"
            ) from error


@dataclass(frozen=True, slots=True)
class Applied:
    """A, as far as it can be seen: the version table's heads and the history's rows.

    ``history`` is empty for a database that Tidegate has never seen. ``begun`` are the revisions
    that have committed a part of what they do (before or in an ``autocommit_block``), and failed.
    """

    heads: frozenset[str] = frozenset()
    history: Mapping[str, Revision] = field(default_factory=dict)
    begun: Mapping[str, Revision] = field(default_factory=dict)

    @classmethod
    def of(cls, heads: Iterable[str], rows: Iterable[Row], begun: Iterable[Row] = ()) -> Applied:
        """Take what the tables hold; rows are revision, phase and what it builds on.

        A row whose phase nobody knows counts as no row: its revision is then ``unknown``.
        """
        return cls(frozenset(heads), _revisions(rows), _revisions(begun))

    @property
    def half_contracted(self) -> frozenset[str]:
        """The contract revisions that are begun: for older images they are as good as applied."""
        return frozenset(
            name for name, revision in self.begun.items() if revision.phase is Phase.CONTRACT
        )


def _revisions(rows: Iterable[Row]) -> dict[str, Revision]:
    phases = {phase.value for phase in Phase}
    return {
        name: Revision(name, Phase(phase), tuple(down))
        for name, phase, down in rows
        if phase in phases
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """K and A, held against each other.

    ``pending`` is K without A. ``ahead`` is A without K; its phase is ``None`` where a revision
    has no row in the history, so that nobody here can know what it did.
    """

    pending: Mapping[str, Phase] = field(default_factory=dict)
    ahead: Mapping[str, Phase | None] = field(default_factory=dict)


def compare(manifest: Manifest, applied: Applied) -> Difference:
    """Walk down from the database's heads, through what the image ships or the history tells.

    A contract revision that is only begun is ahead, too, where it is not shipped: what it dropped
    is gone. Where it is shipped it is pending.
    """
    seen: set[str] = set()
    ahead: dict[str, Phase | None] = {}
    open_ends = sorted(applied.heads)
    while open_ends:
        name = open_ends.pop()
        if name in seen:
            continue
        seen.add(name)
        revision = manifest.revisions.get(name)
        if revision is None:
            revision = applied.history.get(name)
            ahead[name] = revision.phase if revision else None
        if revision:
            open_ends.extend(revision.down)
    ahead |= dict.fromkeys(applied.half_contracted - manifest.revisions.keys(), Phase.CONTRACT)
    pending = {
        name: revision.phase for name, revision in manifest.revisions.items() if name not in seen
    }
    return Difference(pending, ahead)


def judge(difference: Difference | None) -> Verdict:
    """Give the verdict; ``None`` stands for a database whose tables could not be read.

    Where several hold at once the most severe wins.
    """
    if difference is None:
        return Verdict.UNKNOWN
    ahead = set(difference.ahead.values())
    pending = set(difference.pending.values())
    if Phase.CONTRACT in ahead:
        return Verdict.AHEAD_INCOMPATIBLE
    if None in ahead:
        return Verdict.UNKNOWN
    if Phase.EXPAND in pending:
        return Verdict.BEHIND
    if ahead:
        return Verdict.AHEAD_COMPATIBLE
    if pending:
        return Verdict.CONTRACT_PENDING
    return Verdict.CURRENT


class Outcome(StrEnum):
    """How a run of the migration Job ended."""

    DONE = "done"
    NOTHING_TO_DO = "nothing-to-do"
    FAILED = "failed"


class Failure(StrEnum):
    """Why a run failed. A closed list: conditions, exit codes and docs all speak of these."""

    SETTINGS = "settings"
    UNREACHABLE = "unreachable"
    LOCK_TIMEOUT = "lock-timeout"
    INCOMPATIBLE = "incompatible"
    LINT = "lint"
    MIGRATION_ERROR = "migration-error"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class AppliedRevision:
    """One revision that a run applied, and the seconds it took."""

    id: str
    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of ``tidegate migrate up`` did; the Job's termination message.

    ``image`` is the image that ran, ``heads`` the version table's heads when it ended,
    ``pending`` and ``ahead`` the difference to that image's revisions at that moment (so a
    reader can call :func:`judge` itself), ``seconds`` the wall time. ``failure``, ``revision``,
    ``message`` and ``hint`` are set when the outcome is ``failed``.
    """

    outcome: Outcome
    verdict: Verdict
    image: str = ""
    heads: tuple[str, ...] = ()
    applied: tuple[AppliedRevision, ...] = ()
    pending: Mapping[str, Phase] = field(default_factory=dict)
    ahead: Mapping[str, Phase | None] = field(default_factory=dict)
    seconds: float = 0.0
    failure: Failure | None = None
    revision: str = ""
    message: str = ""
    hint: str = ""
    omitted: int = 0
    """How many times the size limit took something away."""

    LIMIT: ClassVar[int] = 4096
    """Bytes that Kubernetes keeps of a container's termination message."""

    def to_json(self, limit: int | None = None) -> str:
        """Write one line of JSON, at most ``limit`` bytes long when a limit is given.

        What does not fit is left out whole, by rule: first the applied revisions from the
        oldest on, then the pending and ahead ones that do not decide the verdict, then the
        tail of the longest words. :func:`judge` answers the same before and after.
        """
        report = self
        text = report._dump()
        while limit is not None and len(text.encode()) > limit:
            report = report._shorter()
            text = report._dump()
        return text

    def _dump(self) -> str:
        plain = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return json.dumps({"version": 1, **plain}, separators=(",", ":"), default=str)

    def _shorter(self) -> Report:
        changes: dict[str, Any] = {}
        words = {name: getattr(self, name) for name in ("message", "hint", "image", "revision")}
        longest = max(words, key=lambda name: len(words[name]))
        if self.applied:
            changes["applied"] = self.applied[_eighth(self.applied) :]
        elif len(self.pending) > 1:
            changes["pending"] = _without_the_least(self.pending, Phase.EXPAND, Phase.CONTRACT)
        elif len(self.ahead) > 1:
            changes["ahead"] = _without_the_least(self.ahead, Phase.CONTRACT, None, Phase.EXPAND)
        elif len(self.heads) > 1:
            changes["heads"] = self.heads[: -_eighth(self.heads)]
        elif words[longest]:
            changes[longest] = words[longest][: -_eighth(words[longest])]
        else:  # a single revision id that fills the message: what happened still gets through
            changes = {"heads": (), "pending": {}, "ahead": {}}
        return replace(self, **changes, omitted=self.omitted + 1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read a report, as the operator does from a termination message.

        Raises:
            ValueError: the text is not a report.
        """
        try:
            data = json.loads(text)
            failure = data.get("failure")
            return cls(
                outcome=Outcome(data["outcome"]),
                verdict=Verdict(data["verdict"]),
                image=str(data.get("image", "")),
                heads=tuple(map(str, data.get("heads", ()))),
                applied=tuple(
                    AppliedRevision(str(row["id"]), Phase(row["phase"]), float(row["seconds"]))
                    for row in data.get("applied", ())
                ),
                pending={str(k): Phase(v) for k, v in data.get("pending", {}).items()},
                ahead={
                    str(k): None if v is None else Phase(v)
                    for k, v in data.get("ahead", {}).items()
                },
                seconds=float(data.get("seconds", 0.0)),
                failure=None if failure is None else Failure(failure),
                revision=str(data.get("revision", "")),
                message=str(data.get("message", "")),
                hint=str(data.get("hint", "")),
                omitted=int(data.get("omitted", 0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a migration report ({type(error).__name__}: {error})") from error


def _eighth(entries: Sized) -> int:
    """How much to drop at a time: an eighth, so that thousands take tens of tries."""
    return max(1, len(entries) // 8)


def _without_the_least(
    entries: Mapping[str, Phase | None], *by_severity: Phase | None
) -> dict[str, Phase | None]:
    """Return the entries without an eighth: those that weigh least in the verdict."""
    ordered = sorted(entries, key=lambda name: by_severity.index(entries[name]))
    return {name: entries[name] for name in ordered[: -_eighth(ordered)]}
