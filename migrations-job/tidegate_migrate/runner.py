"""Runs an Alembic project's pending revisions through its own, unedited ``env.py``.

The runner holds the lock, decides and reports, and loads nothing of the project itself: a scout
looks at it, and workers run it, each in a process apart.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import psycopg

from tidegate.schema import Applied, Failure, Manifest, Outcome, Report, Verdict, judge
from tidegate_migrate import boundary, database, environment, history
from tidegate_migrate.ending import Ending
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.looking import Say, connect, follow, plan_run, report_of, settle
from tidegate_migrate.place import Place
from tidegate_migrate.plan import Plan
from tidegate_migrate.pooler import refuse_shared_connections
from tidegate_migrate.progress import Progress
from tidegate_migrate.report import failed
from tidegate_migrate.run import Run
from tidegate_migrate.scout import Scout
from tidegate_migrate.settings import Settings

# A transaction that writes a message into the log, which nobody reads, and is on disk when it is
# answered: and with it all that was committed before.
_FLUSH = "SELECT pg_logical_emit_message(true, 'tidegate', '')"


def up(settings: Settings, say: Say, ending: Ending, progress: Progress) -> Report:
    """Apply what the scope allows, and report. Never raises for a failed migration.

    ``progress`` is kept up to date meanwhile, for whoever watches.
    """
    started = time.monotonic()
    try:
        environment.set_up(settings)
        with Scout(settings) as scout, connect(settings, say) as connection:
            report = _up_and_look(settings, scout, connection, progress, say, ending)
    except MigrateError as error:
        report = failed(error)
    except KeyboardInterrupt:
        report = failed(terminated(progress.running))
    return replace(
        report,
        image=settings.image,
        # Where env.py keeps one transaction around all of them, a failure takes all of them back.
        applied=tuple(done for done in progress.applied.values() if done.id not in report.pending),
        seconds=round(time.monotonic() - started, 3),
    )


def terminated(revision: str = "") -> MigrateError:
    """What is to be said of a run that was told to stop."""
    return MigrateError(
        Failure.TERMINATED,
        "the run was told to stop before it was done",
        hint="what was not finished is rolled back; run it again, with more time",
        revision=revision,
    )


def _up_and_look(
    settings: Settings,
    scout: Scout,
    connection: psycopg.Connection,
    progress: Progress,
    say: Say,
    ending: Ending,
) -> Report:
    """Run, then report what the database holds, however the run ended."""
    outcome = Outcome.FAILED
    error: MigrateError | None = None
    place = shipped = None
    try:
        boundary.reached("connected")
        with database.errors_in_words():
            backend = refuse_shared_connections(connection, settings.url)
            database.steady(connection, lock_timeout=settings.ddl_lock_timeout)
            shipped = scout.shipped()
            place = settle(scout.look(), connection)
            boundary.reached("env.py looked at")
            run = Run(settings, shipped.manifest, connection, backend, place, progress, say, ending)
            outcome = _up(run, scout, shipped.wanted)
    except MigrateError as raised:
        error = raised
    except KeyboardInterrupt:  # SIGTERM, or Ctrl-C
        error = terminated(progress.running)
    if place is None or shipped is None:
        return failed(error or terminated())
    seen = _look(settings, shipped.manifest, connection, place, progress)
    missed = sorted(progress.planned & seen.pending.keys())
    if error is None and missed:
        error = MigrateError(
            Failure.MIGRATION_ERROR,
            f"env.py ended without an error, and {missed[0]} is not applied",
            hint="env.py has to call context.run_migrations() on the database of DATABASE_URL",
            revision=missed[0],
        )
    elif error is None and seen.verdict is Verdict.UNKNOWN:
        error = MigrateError(
            Failure.UNREACHABLE,
            "the database could not be asked what the run left behind",
            hint="run this again: what is applied is not applied twice",
        )
    return failed(error, seen) if error else replace(seen, outcome=outcome)


def _up(run: Run, scout: Scout, wanted: frozenset[str] | None) -> Outcome:
    settings, connection, place = run.settings, run.connection, run.place

    def plan_now(applied: Applied) -> Plan:
        return plan_run(settings, run.manifest, connection, place, applied, wanted, scout.changed)

    # Once without the lock: the twentieth runner of a release need not queue for nothing.
    applied = history.read(connection, place)
    plan = plan_now(applied)
    if plan.revisions or _finished_by_hand(run.manifest, applied):
        from tidegate_migrate import applying, instances, journal, worker
        from tidegate_migrate.lock import migration_lock

        with worker.start(settings) as first:  # it loads the project meanwhile
            with migration_lock(connection, timeout=settings.lock_timeout, say=run.say):
                boundary.reached("lock taken")
                applied = history.read(connection, place)
                journal.forget_finished(connection, place, run.manifest, applied)
                plan = plan_now(applied)
                if plan.revisions:
                    worker.begin(first)
                    if not plan.empty:  # else nobody is there to be hurt
                        run = replace(run, manifest=_linted(run, scout, plan))
                    history.ensure(connection, place)
                    instances.ensure(connection, place)
                    boundary.reached("tables made")
                    run.progress.planned = plan.revisions
                    applying.apply(run, plan, first)
        boundary.reached("lock released")
    if plan.refusal:
        raise plan.refusal
    return Outcome.DONE if run.progress.applied else Outcome.NOTHING_TO_DO


def _linted(run: Run, scout: Scout, plan: Plan) -> Manifest:
    """Lint what is to run now; return the phases as the history is to know them."""
    from tidegate_migrate.lint_first import refuse_unsafe

    return refuse_unsafe(
        run.manifest,
        scout.lint(plan.revisions, run.connection.info.server_version),
        lambda text: run.say(database.hide_password(run.settings.url, text)),
        nobody_runs_older=run.settings.nobody_runs_older,
    )


def _finished_by_hand(manifest: Manifest, applied: Applied) -> bool:
    if not applied.begun:
        return False
    from tidegate_migrate import journal

    return bool(journal.finished(manifest, applied))


def _look(
    settings: Settings,
    manifest: Manifest,
    connection: psycopg.Connection,
    place: Place,
    progress: Progress,
) -> Report:
    """Report what the database holds now, over a new connection where the old one broke."""

    def look(by: psycopg.Connection) -> Report:
        if progress.applied and progress.planned - progress.applied.keys():
            # The last revision's commit, which would have brought all to disk, did not come.
            with suppress(psycopg.DatabaseError):  # a full disk, say; the report counts
                by.execute(_FLUSH)
        return report_of(manifest, history.read(by, place))

    with suppress(MigrateError, psycopg.Error):
        try:
            return look(connection)
        except psycopg.Error:
            if connection.closed:
                with connect(replace(settings, connect_timeout=0.0), lambda _: None) as anew:
                    follow(anew, place)
                    database.steady(anew, lock_timeout=settings.ddl_lock_timeout)
                    return look(anew)
    return Report(Outcome.FAILED, judge(None))
