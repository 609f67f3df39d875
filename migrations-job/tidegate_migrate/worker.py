"""One pass of env.py over the planned revisions, each in its own transaction, with its row.

It runs in a process apart, and has no connection but the one that env.py makes. What takes the one
that holds the lock, it asks of the runner: see :class:`tidegate_migrate.applying.Listener`.
"""

from __future__ import annotations

import functools
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy.exc import PendingRollbackError

from tidegate.schema import AppliedRevision, Failure, Manifest
from tidegate_migrate import boundary, environment, history, journal, session
from tidegate_migrate.apart import Apart, Line
from tidegate_migrate.autocommit import Statements
from tidegate_migrate.backfill import RETURNS
from tidegate_migrate.explain import explain
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.journal import Unfinished
from tidegate_migrate.lock import held_by, lost
from tidegate_migrate.patience import Patience, is_about_a_lock
from tidegate_migrate.place import Place, literal
from tidegate_migrate.plan import targets
from tidegate_migrate.pooler import refuse_shared_engine
from tidegate_migrate.project import Project, load
from tidegate_migrate.recording import Recording
from tidegate_migrate.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Order:
    """What a pass is to apply.

    ``manifest`` gives the phases as the history is to know them, ``revisions`` what is left of the
    plan; of them those ``guarded`` are asked about right before, and those ``returning`` were
    applied and taken back. The database is at ``heads``, and ``unfinished`` is what earlier runs
    have left. ``backend`` holds the lock; ``lock_timeout`` is how long a statement may queue
    outside of blocks, in seconds.
    """

    manifest: Manifest
    revisions: frozenset[str]
    guarded: frozenset[str]
    place: Place
    heads: frozenset[str]
    unfinished: Mapping[str, Unfinished]
    returning: frozenset[str]
    backend: int
    lock_timeout: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pass has ended: with an error, ``stuck`` at a lock that was not free, or well."""

    error: MigrateError | None = None
    stuck: bool = False


def start(settings: Settings) -> Apart:
    """Let a worker load the project; told to begin, it runs env.py and asks for its order there."""
    return Apart(partial(_work, settings))


def begin(apart: Apart) -> None:
    """Let a worker begin. The lock has to be held: env.py may have one of its own."""
    with suppress(BrokenPipeError):
        apart.pipe.send("begin")


def _work(settings: Settings, pipe: Connection) -> None:
    line = Line(pipe)
    try:
        project = load(settings.config_file, settings.alembic)
        environment.point_at(project, settings)
    except MigrateError as error:
        line.tell("ended", Ended(error))
        return
    gc.freeze()  # see cli.main
    gc.enable()  # revisions are anybody's code, and may take hours
    pipe.recv()  # to begin: the lock is held
    line.tell("ended", _Pass(settings, project, line).over())


class _Pass:
    """Hands the planned revisions to Alembic once. A lock that is not free ends it."""

    def __init__(self, settings: Settings, project: Project, line: Line) -> None:
        self._settings = settings
        self._project = project
        self._line = line
        self._running = ""
        self._started = time.monotonic()
        self._failed: BaseException | None = None

    def over(self) -> Ended:
        """Apply what is ordered, and say how that has ended."""
        try:
            environment.run(
                self._project,
                self._steps,
                configured=self._configured,
                on_version_apply=self._on_version_apply,
            )
            if self._failed:  # though env.py has caught it
                raise self._failed
        except MigrateError as error:
            return Ended(error)
        # env.py and revisions are anybody's code: whatever they raise is their failure.
        except BaseException as error:
            if is_about_a_lock(error):
                return Ended(stuck=True)
            return Ended(explain(_beneath(error), self._running, self._settings.url))
        return Ended()

    def _configured(self, context: MigrationContext) -> None:
        settings = self._settings
        if context.connection is None:
            raise RuntimeError("env.py configured Alembic without a connection")
        refuse_shared_engine(context.connection)
        order: Order = self._line.ask("order")
        self._order = order
        self._left = set(order.revisions)
        self._lock = held_by(order.backend)
        self._values = session.initial(
            host=os.uname().nodename,
            lock_timeout=order.lock_timeout,
            statement_timeout=settings.statement_timeout,
        )
        seen = session.introduce(context.connection, self._values, self._lock)
        self._line.tell("begun", seen.backend)
        if not seen.held:
            self._line.ask("alive")  # or the lock went with its connection
            raise _works_elsewhere()
        if not seen.in_transactions:
            raise _without_transactions()
        self._statement_timeout = settings.statement_timeout
        self._in_force = False
        self._statements = Statements(
            context,
            order.place,
            order.unfinished,
            prepare=lambda: self._line.ask("prepare"),
            lock=self._lock,
            patience=partial(Patience.of, settings.deadline),
            again=self._again,
            lock_timeout=order.lock_timeout,
            longest=settings.ddl_lock_timeout,
            after_block=self._check_who_runs,
            say=self._say,
        )
        Recording(context, order.place.versions, self._record, refused=lambda: lost(self._running))
        boundary.reached("env.py configured")

    def _steps(self, heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        order = self._order
        if frozenset(heads) != order.heads:
            raise MigrateError(
                Failure.SETTINGS,
                f"env.py keeps its versions elsewhere than in {order.place}, where it kept them "
                "a moment ago",
                hint="let env.py name the same version_table and schema at every run",
            )
        upmost: Any = targets(order.manifest, order.revisions)
        for step in self._project.scripts._upgrade_revs(upmost, heads):  # type: ignore[arg-type]
            script = step.revision
            self._running = script.revision
            self._started = time.monotonic()
            self._line.tell("running", self._running, self._started)
            step.migration_fn = self._guarded(step.migration_fn, script, context)
            yield step
            # Only here has the revision's transaction ended.
            boundary.reached("revision committed")
            seconds = round(time.monotonic() - self._started, 3)
            phase = order.manifest.revisions[self._running].phase
            self._line.tell("applied", AppliedRevision(self._running, phase, seconds))
            self._left.discard(self._running)
            self._running = ""

    def _guarded(
        self, upgrade: Callable[..., None], script: Script, context: MigrationContext
    ) -> Callable[..., None]:
        """Return ``upgrade`` with what has to happen around it, inside its transaction."""
        name = script.revision

        @functools.wraps(upgrade)
        def guarded(**options: Any) -> None:  # noqa: ANN401 - env.py's own
            if context.connection is None:
                raise RuntimeError("Alembic runs a revision without a connection")
            self._check_who_runs()
            self._set(context.connection, name)
            context.opts[RETURNS] = name in self._order.returning
            boundary.reached("revision begun")
            checksum = partial(self._project.checksum, name)
            revision = self._order.manifest.revisions[name]
            try:
                with self._statements.of(revision, checksum, self._statement_timeout):
                    upgrade(**options)
            except BaseException as error:
                self._failed = error
                raise
            self._failed = None
            boundary.reached("revision ran")

        return guarded

    def _set(self, connection: sa.Connection, name: str) -> None:
        """Set for the revision what is to hold for it."""
        default = self._settings.statement_timeout
        wanted = self._project.statement_timeouts.get(name, default)
        # env.py may have set others since it was configured, and so may the revision before.
        if not self._in_force or self._statements.settings_touched:
            session.apply(connection, self._values)
            self._in_force, self._statement_timeout = True, default
        if wanted != self._statement_timeout:
            connection.exec_driver_sql(f"SET statement_timeout = '{session.milliseconds(wanted)}'")
            self._statement_timeout = wanted
        if len(self._left) == 1:
            connection.exec_driver_sql(session.LAST)

    def _check_who_runs(self) -> None:
        if self._running in self._order.guarded:
            self._line.ask("check", self._running)

    def _again(self, patience: Patience, what: str) -> None:
        """Wait for another try, outside of the queue; the patience is used up there."""
        after: Patience = self._line.ask("again", patience, what)
        patience.pauses, patience.queue = after.pauses, after.queue

    def _say(self, words: str) -> None:
        self._line.tell("say", words)

    def _record(self) -> tuple[str, str]:
        order, name = self._order, self._running
        row = history.row(
            order.place,
            order.manifest.revisions[name],
            seconds=round(time.monotonic() - self._started, 3),
            image=self._settings.image,
            checksum=self._project.checksum(name),
            lint_ignored=self._project.lint_ignored.get(name),
            lock=self._lock,
        )
        return literal(name), row

    def _on_version_apply(self, *, ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
        order = self._order
        name = step.up_revision_id
        if name is None or ctx.connection is None:
            raise RuntimeError("Alembic applied a step without a revision or a connection")
        boundary.reached("version and history written")
        if self._statements.journaled:
            journal.forget(ctx.connection, order.place, name)
        others = [each for each, entry in order.unfinished.items() if not entry.stale]
        if others:  # of other branches, say
            journal.still_hold(ctx.connection, order.place, others)


def _beneath(error: BaseException) -> BaseException:
    """Return what broke the connection, where the end of a block only stumbled over that."""
    while isinstance(error, PendingRollbackError) and error.__context__:
        error = error.__context__
    return error


def _without_transactions() -> MigrateError:
    return MigrateError(
        Failure.SETTINGS,
        "env.py's connection commits every statement by itself (AUTOCOMMIT), so a revision that "
        "fails could not be taken back",
        hint="leave that isolation_level out of env.py's engine; a statement that needs it goes "
        "into `with op.get_context().autocommit_block()`",
    )


def _works_elsewhere() -> MigrateError:
    return MigrateError(
        Failure.SETTINGS,
        "env.py works on another database than DATABASE_URL (or DIRECT_URL) names",
        hint="let env.py take its URL from DATABASE_URL or from sqlalchemy.url",
    )
