"""One pass of env.py over the planned revisions: each in its own transaction, with its row."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy.exc import PendingRollbackError

from tidegate.schema import AppliedRevision, Failure
from tidegate_migrate import boundary, database, environment, guard, history, journal, session
from tidegate_migrate.autocommit import Statements
from tidegate_migrate.blockers import Blockers
from tidegate_migrate.ending import Ending
from tidegate_migrate.explain import explain
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lock import await_orphans, held_by, lost
from tidegate_migrate.patience import Patience, is_about_a_lock
from tidegate_migrate.place import Place
from tidegate_migrate.plan import Plan
from tidegate_migrate.pooler import refuse_shared_engine
from tidegate_migrate.progress import Progress
from tidegate_migrate.project import Project
from tidegate_migrate.recording import Recording
from tidegate_migrate.settings import Settings


@dataclass(frozen=True, slots=True)
class Run:
    """What a run works with. ``connection`` holds the lock, as the server's ``backend``."""

    settings: Settings
    project: Project
    connection: psycopg.Connection
    backend: int
    place: Place
    progress: Progress
    say: Callable[[str], None]
    ending: Ending

    def patience(self) -> Patience:
        """Begin to be patient: once for each transaction, or statement that stands alone."""
        return Patience(self.settings.deadline, time.monotonic, random.random)


def apply(run: Run, plan: Plan) -> None:
    """Apply the planned revisions; one that does not get its locks is rolled back and tried anew.

    Raises:
        MigrateError: ``lock-timeout``, naming who held the lock; else what went wrong.
    """
    blockers = Blockers(run.connection, run.say, run.progress)
    run.ending.cancel = lambda: _cancel(run.settings.url, blockers.backend)
    await_orphans(run.connection, timeout=run.settings.lock_timeout, say=run.say)
    stuck, patience = ("", 0), run.patience()
    with blockers.watched():
        while True:
            heads = history.read(run.connection, run.place).heads
            try:
                return Pass(run, plan, blockers, patience.queue).over(heads)
            except (MigrateError, KeyboardInterrupt):
                raise
            # env.py and revisions are anybody's code: whatever they raise is their failure.
            except BaseException as error:
                revision = run.progress.running
                if run.ending.told:
                    raise KeyboardInterrupt from error
                if not is_about_a_lock(error):
                    raise explain(_beneath(error), revision, run.settings.url) from error
                here = (revision, _part(run, revision))
                if here != stuck:
                    stuck, patience = here, run.patience()
                _wait_for_another_try(run, blockers, patience, revision)


def _part(run: Run, revision: str) -> int:
    """Return how many parts of the revision are committed: behind a block it is stuck anew."""
    return journal.read(run.connection, run.place).get(revision, journal.Unfinished()).part


def _beneath(error: BaseException) -> BaseException:
    """Return what broke the connection, where the end of a block only stumbled over that."""
    while isinstance(error, PendingRollbackError) and error.__context__:
        error = error.__context__
    return error


def _wait_for_another_try(run: Run, blockers: Blockers, patience: Patience, revision: str) -> None:
    if not blockers.again(patience, revision):
        raise _stuck(run.settings, revision, blockers.last)


class Pass:
    """Hands the planned revisions to Alembic once. A lock that is not free ends it."""

    def __init__(self, run: Run, plan: Plan, blockers: Blockers, queue: float) -> None:
        self._run = run
        self._plan = plan
        self._blockers = blockers
        self._lock_timeout = min(queue, run.settings.ddl_lock_timeout)
        self._lock = held_by(run.backend)
        self._started = time.monotonic()

    def over(self, heads: frozenset[str]) -> None:
        """Apply what is planned on a database at ``heads``.

        Raises:
            MigrateError: env.py works elsewhere, or the lock was lost. Whatever env.py and the
                revisions raise is passed on.
        """
        self._heads = heads
        self._unfinished = journal.read(self._run.connection, self._run.place)
        environment.run(
            self._run.project,
            self._steps,
            configured=self._configured,
            on_version_apply=self._on_version_apply,
        )

    def _configured(self, context: MigrationContext) -> None:
        settings = self._run.settings
        if context.connection is None:
            raise RuntimeError("env.py configured Alembic without a connection")
        refuse_shared_engine(context.connection)
        self._values = session.initial(
            host=os.uname().nodename,
            lock_timeout=self._lock_timeout,
            statement_timeout=settings.statement_timeout,
        )
        seen = session.introduce(context.connection, self._values, self._lock)
        self._blockers.backend = seen.backend
        if not seen.held:
            with database.errors_in_words():  # where the lock went with its connection
                self._run.connection.execute("SELECT")
            raise _works_elsewhere(self._run.settings)
        if not seen.in_transactions:
            raise _without_transactions()
        self._statement_timeout = settings.statement_timeout
        self._statements = Statements(
            context,
            self._run.place,
            self._unfinished,
            prepare=lambda: journal.ensure(self._run.connection, self._run.place),
            lock=self._lock,
            patience=self._run.patience,
            again=functools.partial(_wait_for_another_try, self._run, self._blockers),
            lock_timeout=self._lock_timeout,
            longest=settings.ddl_lock_timeout,
            after_block=self._check_who_runs,
            say=self._run.say,
        )
        Recording(context, self._history_row, refused=lambda: lost(self._run.progress.running))
        boundary.reached("env.py configured")

    def _steps(self, heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        run, progress = self._run, self._run.progress
        if frozenset(heads) != self._heads:
            raise MigrateError(
                Failure.SETTINGS,
                f"env.py keeps its versions elsewhere than in {run.place}, where it kept them "
                "a moment ago",
                hint="let env.py name the same version_table and schema at every run",
            )
        targets: Any = self._plan.targets(run.project.manifest)
        for step in run.project.scripts._upgrade_revs(targets, heads):  # type: ignore[arg-type]
            script = step.revision
            progress.running = script.revision
            self._started = self._blockers.since = time.monotonic()
            step.migration_fn = self._guarded(step.migration_fn, script, context)
            yield step
            # Only here has the revision's transaction ended.
            boundary.reached("revision committed")
            seconds = round(time.monotonic() - self._started, 3)
            phase = run.project.manifest.revisions[script.revision].phase
            applied = AppliedRevision(script.revision, phase, seconds)
            progress.applied[applied.id] = applied
            locked = self._blockers.held.let_go()
            run.say(f"applied {applied.id} ({applied.phase}) in {applied.seconds:.2f} s{locked}")
            progress.running = ""

    def _guarded(
        self, upgrade: Callable[..., None], script: Script, context: MigrationContext
    ) -> Callable[..., None]:
        """Return ``upgrade`` with what has to happen around it, inside its transaction."""
        name = script.revision

        @functools.wraps(upgrade)
        def guarded(**options: Any) -> None:  # noqa: ANN401 - env.py's own
            run = self._run
            self._check_who_runs()
            wanted = run.project.statement_timeouts.get(name, run.settings.statement_timeout)
            if context.connection is None:
                raise RuntimeError("Alembic runs a revision without a connection")
            if self._statements.settings_touched:  # by the revision before
                session.apply(context.connection, self._values)
                self._statement_timeout = run.settings.statement_timeout
            if wanted != self._statement_timeout:
                context.connection.exec_driver_sql(
                    f"SET statement_timeout = '{session.milliseconds(wanted)}'"
                )
                self._statement_timeout = wanted
            if len(run.progress.applied) + 1 == len(self._plan.revisions):
                context.connection.exec_driver_sql(session.LAST)
            boundary.reached("revision begun")
            checksum = functools.partial(run.project.checksum, name)
            with self._statements.of(run.project.manifest.revisions[name], checksum, wanted):
                upgrade(**options)
            boundary.reached("revision ran")

        return guarded

    def _check_who_runs(self) -> None:
        run, name = self._run, self._run.progress.running
        if name in self._plan.guarded:
            guard.check(run.connection, run.place, run.project.manifest, [name])

    def _history_row(self) -> str:
        run, name = self._run, self._run.progress.running
        return history.row(
            run.place,
            run.project.manifest.revisions[name],
            seconds=round(time.monotonic() - self._started, 3),
            image=run.settings.image,
            checksum=run.project.checksum(name),
            lint_ignored=run.project.lint_ignored.get(name),
            lock=self._lock,
        )

    def _on_version_apply(self, *, ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
        run = self._run
        name = step.up_revision_id
        if name is None or ctx.connection is None:
            raise RuntimeError("Alembic applied a step without a revision or a connection")
        boundary.reached("version and history written")
        if self._statements.journaled:
            journal.forget(ctx.connection, run.place, name)
        others = [each for each, entry in self._unfinished.items() if not entry.stale]
        if others:  # of other branches, say
            journal.still_hold(ctx.connection, run.place, others)


def _cancel(url: str, backend: int) -> None:
    """Cancel what a backend runs, over a connection of its own: the others may be stuck."""
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        connection.execute("SELECT pg_cancel_backend(%s)", [backend])


def _stuck(settings: Settings, revision: str, blocker: str) -> MigrateError:
    return MigrateError(
        Failure.LOCK_TIMEOUT,
        f"revision {revision} did not get its locks within {settings.deadline:g} s, in tries of "
        f"up to {settings.ddl_lock_timeout:g} s; in its way: {blocker or 'nobody that was seen'}",
        hint="nothing of it is left behind but what an autocommit block has done; let the "
        "other transaction end (or end it), then run this again",
        revision=revision,
    )


def _without_transactions() -> MigrateError:
    return MigrateError(
        Failure.SETTINGS,
        "env.py's connection commits every statement by itself (AUTOCOMMIT), so a revision that "
        "fails could not be taken back",
        hint="leave that isolation_level out of env.py's engine; a statement that needs it goes "
        "into `with op.get_context().autocommit_block()`",
    )


def _works_elsewhere(settings: Settings) -> MigrateError:
    return MigrateError(
        Failure.SETTINGS,
        "env.py works on another database than DATABASE_URL (or DIRECT_URL) names",
        hint="let env.py take its URL from DATABASE_URL or from sqlalchemy.url",
    )
