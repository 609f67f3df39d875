"""What every command looks at first: the project's files, the database, and what is to be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import psycopg

from tidegate.schema import Applied, Failure, Manifest, Outcome, Phase, Report, compare, judge
from tidegate_migrate import database, environment, history
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.place import VERSION_TABLE, Place, find_schema, identifier
from tidegate_migrate.plan import Plan, Scope, decide
from tidegate_migrate.project import Project, load
from tidegate_migrate.settings import Settings

if TYPE_CHECKING:
    from tidegate_migrate.instances import Instance

Say = Callable[[str], None]

_LOOK: Final = "SET LOCAL lock_timeout = '2s'"


@dataclass(frozen=True, slots=True)
class Opened:
    """A project and its database: the connection, in autocommit, and where versions are kept.

    ``image`` is the one that looks.
    """

    project: Project
    connection: psycopg.Connection
    place: Place
    image: str

    def read(self) -> Applied:
        """Read what is applied now, or fail where somebody keeps a table of it locked."""
        with self.connection.transaction():  # a session may be a pooler's
            self.connection.execute(_LOOK)
            return history.read(self.connection, self.place)

    def plan(self, settings: Settings, applied: Applied) -> Plan:
        """Plan what a run would apply now; see :func:`plan_run`."""
        return plan_run(
            settings,
            self.project.manifest,
            self.connection,
            self.place,
            applied,
            wanted(self.project, settings),
            lambda: changed_by(self.project),
        )

    def report(self, applied: Applied, outcome: Outcome = Outcome.NOTHING_TO_DO) -> Report:
        """Report what is applied, in the words of this image."""
        return replace(report_of(self.project.manifest, applied), image=self.image, outcome=outcome)


@contextmanager
def opened(settings: Settings, say: Say) -> Iterator[Opened]:
    """Open both; what the server answers inside of the block becomes a reason and a hint.

    Raises:
        MigrateError: the project does not load, env.py fails, or the database cannot be read.
    """
    environment.set_up(settings)
    project = load(settings.config_file, settings.alembic)
    environment.point_at(project, settings)
    with connect(settings, say) as connection, database.errors_in_words():
        place = settle(look(project, settings), connection)
        yield Opened(project, connection, place, settings.image)


def connect(settings: Settings, say: Say) -> psycopg.Connection:
    """Connect past any pooler, waiting for a database that is not up yet.

    Raises:
        MigrateError: ``settings`` or ``unreachable``.
    """
    return database.connect(
        settings.url,
        timeout=settings.connect_timeout,
        application_name=f"tidegate migrate {os.uname().nodename}"[:63],
        say=say,
    )


def look(project: Project, settings: Settings) -> Place | None:
    """Learn from env.py where it keeps its versions, and as whom; ``None`` where it does not say.

    Raises:
        MigrateError: env.py fails, or works in several places or in none.
    """
    try:
        return environment.look(project)
    except (MigrateError, KeyboardInterrupt):
        raise
    # env.py is anybody's code: whatever it raises is its failure.
    except BaseException as error:
        from tidegate_migrate.explain import explain

        raise explain(error, "", settings.url) from error


def settle(place: Place | None, connection: psycopg.Connection) -> Place:
    """Let the connection work as env.py does, and return where it keeps its versions."""
    if place is not None:
        follow(connection, place)
        return place
    # It does not run migrations: where they would be, should somebody have run them by hand.
    row = connection.execute(find_schema(VERSION_TABLE, None).encode()).fetchone()
    return Place(row[0] if row and row[0] else "public")


def follow(connection: psycopg.Connection, place: Place) -> None:
    """Work as the role that env.py works as: what is written beside is to be the same one's.

    Behind a pooler the role would be left to whoever gets the server's connection next.
    """
    query = "SELECT current_user::text, pg_backend_pid()"
    for current, backend in connection.execute(query).fetchall():
        if place.role not in {"", current} and backend == connection.info.backend_pid:
            connection.execute(f"SET ROLE {identifier(place.role)}".encode())


def changed_by(project: Project) -> frozenset[str] | None:
    """Return the tables that a project's revisions change; ``None`` where nobody can tell."""
    from tidegate_migrate import emptiness
    from tidegate_migrate.statements import render

    return emptiness.changed_by(render(project, project.manifest.revisions))


def wanted(project: Project, settings: Settings) -> frozenset[str] | None:
    """Return the revisions that ``--to`` asks for at most; ``None`` for all.

    Raises:
        MigrateError: ``settings``: there is no revision of that name.
    """
    return project.ancestry(settings.to) if settings.to else None


def plan_run(
    settings: Settings,
    manifest: Manifest,
    connection: psycopg.Connection,
    place: Place,
    applied: Applied,
    wanted: frozenset[str] | None,
    changed: Callable[[], Collection[str] | None],
) -> Plan:
    """Plan what a run with these settings would apply now, of what is ``wanted``.

    ``changed`` is asked which tables the revisions change, where that matters.

    Raises:
        MigrateError: ``incompatible``: it would apply nothing.
    """
    empty = False
    if not applied.heads:
        from tidegate_migrate.emptiness import is_empty

        empty = is_empty(connection, place, applied, changed)
    witnesses: tuple[Instance, ...] = ()
    if settings.scope is not Scope.EXPAND and not settings.nobody_runs_older:
        from tidegate_migrate import instances

        witnesses = instances.read(connection, place)
    plan = decide(
        manifest,
        applied,
        settings.scope,
        witnesses=witnesses,
        nobody_runs_older=settings.nobody_runs_older,
        empty=empty,
    )
    if wanted is None:
        return plan
    pending = compare(manifest, applied).pending
    missed = {name: pending[name] for name in pending.keys() & wanted - plan.revisions}
    plan = _up_to(plan, wanted)
    if missed and not plan.refusal:
        plan = replace(plan, refusal=_out_of_reach(settings, missed))
    return plan


def _out_of_reach(settings: Settings, missed: Mapping[str, Phase]) -> MigrateError:
    listed = ", ".join(f"{name} ({phase})" for name, phase in sorted(missed.items()))
    return MigrateError(
        Failure.SETTINGS,
        f"--to {settings.to} is not reached: --phase {settings.scope} leaves out {listed}",
        hint="say --phase all, when no older image runs any more",
    )


def _up_to(plan: Plan, wanted: frozenset[str]) -> Plan:
    """Leave out of a plan what nobody asked for, and what only that is refused for."""
    blocked = {name: each for name, each in plan.blocked.items() if name in wanted}
    return replace(
        plan,
        revisions=plan.revisions & wanted,
        blocked=blocked,
        refusal=plan.refusal if blocked else None,
    )


def report_of(manifest: Manifest, applied: Applied) -> Report:
    """Report what the database holds, held against what the project ships."""
    difference = compare(manifest, applied)
    return Report(
        Outcome.NOTHING_TO_DO,
        judge(difference),
        heads=tuple(sorted(applied.heads)),
        pending=dict(difference.pending),
        ahead=dict(difference.ahead),
    )
