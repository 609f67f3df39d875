"""Applies the planned revisions: a worker for each pass, and what stands in its way meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg

from tidegate.schema import AppliedRevision, Failure
from tidegate_migrate import database, guard, history, journal, worker
from tidegate_migrate.apart import Apart, EndedError, answer
from tidegate_migrate.blockers import Blockers
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lock import await_orphans
from tidegate_migrate.patience import Patience
from tidegate_migrate.plan import Plan
from tidegate_migrate.run import Run
from tidegate_migrate.scout import waits_for_somebody
from tidegate_migrate.settings import Settings
from tidegate_migrate.worker import Ended, Order


def apply(run: Run, plan: Plan, first: Apart) -> None:
    """Apply the planned revisions; one that does not get its locks is rolled back and tried anew.

    ``first`` is the worker of the first pass, which has begun. Another pass takes another one, in
    which nothing is left of what the one before had in its memory.

    Raises:
        MigrateError: ``lock-timeout``, naming who held the lock; else what went wrong.
    """
    blockers = Blockers(run.connection, run.say, run.progress)
    run.ending.cancel = lambda: _cancel(run.settings.url, blockers.backend)
    await_orphans(run.connection, timeout=run.settings.lock_timeout, say=run.say)
    stuck, patience = ("", 0), Patience.of(run.settings.deadline)
    apart = first
    with blockers.watched():
        while True:
            with apart:
                order = partial(_order, run, plan, patience.queue)
                ended = Listener(run, blockers, apart, order).over()
            if ended.error:
                if run.ending.told:
                    raise KeyboardInterrupt from ended.error
                raise ended.error
            if not ended.stuck:
                return
            revision = run.progress.running
            here = (revision, _part(run, revision))
            if here != stuck:
                stuck, patience = here, Patience.of(run.settings.deadline)
            apart = worker.start(run.settings)  # loads the project while that is waited for
            try:
                _wait_for_another_try(run, blockers, patience, revision)
            except BaseException:
                apart.kill()
                raise
            worker.begin(apart)


def _order(run: Run, plan: Plan, queue: float) -> Order:
    applied = history.read(run.connection, run.place)
    unfinished = journal.read(run.connection, run.place)
    left = plan.revisions - run.progress.applied.keys()
    return Order(
        run.manifest,
        left,
        plan.guarded,
        run.place,
        applied.heads,
        unfinished,
        left & applied.history.keys() - unfinished.keys(),
        run.backend,
        min(queue, run.settings.ddl_lock_timeout),
    )


def _part(run: Run, revision: str) -> int:
    """Return how many parts of the revision are committed: behind a block it is stuck anew."""
    return journal.read(run.connection, run.place).get(revision, journal.Unfinished()).part


def _wait_for_another_try(run: Run, blockers: Blockers, patience: Patience, revision: str) -> None:
    if not blockers.again(patience, revision):
        raise _stuck(run.settings, revision, blockers.last)


class Listener:
    """Hears what a worker tells, and answers what it asks: one method for each name."""

    def __init__(
        self, run: Run, blockers: Blockers, apart: Apart, order: Callable[[], Order]
    ) -> None:
        self._run = run
        self._blockers = blockers
        self._apart = apart
        self._order = order
        self._ended: Ended | None = None

    def over(self) -> Ended:
        """Be there for the worker until it has ended.

        Raises:
            MigrateError: ``migration-error``: its process has ended by itself; ``lock-timeout``:
                env.py waits for somebody before its connection is there.
        """
        try:
            return self._hear()
        except KeyboardInterrupt:  # SIGTERM, or Ctrl-C
            self._apart.interrupt()
            with suppress(MigrateError):
                self._hear()  # until it has rolled back; `ending` says how long that may take
            raise
        finally:
            self._blockers.backend = 0

    def _hear(self) -> Ended:
        answers: Mapping[str, Callable[..., Any]] = {
            "order": self._give_order,
            "begun": self._begun,
            "running": self._running,
            "applied": self._applied,
            "say": self._run.say,
            "alive": self._alive,
            "prepare": self._prepare,
            "check": self._check,
            "again": self._again,
            "ended": self._end,
        }
        deadline = self._run.settings.deadline
        try:
            while self._ended is None:
                # Until there is a connection nobody can tell whom env.py waits for.
                said = self._apart.receive(None if self._blockers.backend else deadline)
                answer(self._apart.pipe, answers, said)
        except EndedError as ended:
            raise _died(self._run.progress.running, str(ended)) from None
        except TimeoutError:
            self._apart.kill()
            raise waits_for_somebody(deadline) from None
        return self._ended

    def _give_order(self) -> Order:
        with database.errors_in_words():
            return self._order()

    def _begun(self, backend: int) -> None:
        self._blockers.backend = backend

    def _running(self, revision: str, since: float) -> None:
        self._run.progress.running = revision
        self._blockers.since = since

    def _applied(self, revision: AppliedRevision) -> None:
        progress = self._run.progress
        progress.applied[revision.id] = revision
        locked = self._blockers.held.let_go()
        self._run.say(
            f"applied {revision.id} ({revision.phase}) in {revision.seconds:.2f} s{locked}"
        )
        progress.running = ""

    def _alive(self) -> None:
        with database.errors_in_words():
            self._run.connection.execute("SELECT")

    def _prepare(self) -> None:
        with database.errors_in_words():
            journal.ensure(self._run.connection, self._run.place)

    def _check(self, revision: str) -> None:
        run = self._run
        with database.errors_in_words():
            guard.check(run.connection, run.place, run.manifest, [revision])

    def _again(self, patience: Patience, what: str) -> Patience:
        with database.errors_in_words():
            _wait_for_another_try(self._run, self._blockers, patience, what)
        return patience

    def _end(self, ended: Ended) -> None:
        self._ended = ended


def _cancel(url: str, backend: int) -> None:
    """Cancel what a backend runs, over a connection of its own: the others may be stuck."""
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        connection.execute("SELECT pg_cancel_backend(%s)", [backend])


def _died(revision: str, how: str) -> MigrateError:
    where = f"revision {revision} failed" if revision else "env.py failed"
    return MigrateError(
        Failure.MIGRATION_ERROR,
        f"{where}: the process that ran it has not come to its end: {how}",
        hint="what its transaction held was rolled back (what it ran outside of one stays); look "
        "what it printed last, and whether the container has enough memory, then run this again",
        revision=revision,
    )


def _stuck(settings: Settings, revision: str, blocker: str) -> MigrateError:
    what = f"revision {revision}" if revision else "env.py"
    return MigrateError(
        Failure.LOCK_TIMEOUT,
        f"{what} did not get its locks within {settings.deadline:g} s, in tries of up to "
        f"{settings.ddl_lock_timeout:g} s; in its way: {blocker or 'nobody that was seen'}",
        hint="nothing of it is left behind but what an autocommit block has done; let the "
        "other transaction end (or end it), then run this again",
        revision=revision,
    )
