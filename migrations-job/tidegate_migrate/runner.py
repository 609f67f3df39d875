"""Runs an Alembic project's pending revisions through its own, unedited ``env.py``.

Each revision runs in a transaction of its own; the history row is written in it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import to_tuple
from sqlalchemy.exc import ProgrammingError

from tidegate.schema import (
    Applied,
    AppliedRevision,
    Failure,
    Outcome,
    Report,
    Verdict,
    compare,
    judge,
)
from tidegate_migrate import database, history
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.lock import migration_lock
from tidegate_migrate.plan import Plan, decide
from tidegate_migrate.project import Project, load
from tidegate_migrate.report import failed
from tidegate_migrate.settings import Settings


@dataclass(slots=True)
class _Progress:
    """What has happened so far, so that a run that breaks off can still report it."""

    planned: frozenset[str] = frozenset()
    applied: dict[str, AppliedRevision] = field(default_factory=dict)
    running: str = ""


def up(settings: Settings, say: Callable[[str], None]) -> Report:
    """Apply what the scope allows, and report. Never raises for a failed migration."""
    started = time.monotonic()
    progress = _Progress()
    try:
        project = load(settings.config_file)
        with _connect(settings, say) as connection:
            report = _up_and_look(settings, project, connection, progress, say)
    except MigrateError as error:
        report = failed(error)
    except KeyboardInterrupt:
        report = failed(_terminated(progress))
    return replace(
        report,
        image=settings.image,
        # Where env.py keeps one transaction around all of them, a failure takes all of them back.
        applied=tuple(done for done in progress.applied.values() if done.id not in report.pending),
        seconds=round(time.monotonic() - started, 3),
    )


def status(settings: Settings, say: Callable[[str], None]) -> Report:
    """Look, and change nothing.

    Raises:
        MigrateError: the project does not load or the database cannot be read.
    """
    project = load(settings.config_file)
    with _connect(settings, say) as connection, database.errors_in_words():
        seen = _seen(project, history.read(connection))
    return replace(seen, image=settings.image, outcome=Outcome.NOTHING_TO_DO)


def _up_and_look(
    settings: Settings,
    project: Project,
    connection: psycopg.Connection,
    progress: _Progress,
    say: Callable[[str], None],
) -> Report:
    """Run, then report what the database holds, however the run ended."""
    outcome = Outcome.FAILED
    error: MigrateError | None = None
    try:
        with database.errors_in_words():
            outcome = _up(settings, project, connection, progress, say)
    except MigrateError as raised:
        error = raised
    except KeyboardInterrupt:  # SIGTERM, or Ctrl-C
        error = _terminated(progress)
    seen = _look(settings, project, connection)
    missed = sorted(progress.planned & seen.pending.keys())
    if error is None and missed:
        error = MigrateError(
            Failure.MIGRATION_ERROR,
            f"env.py ended without an error, and {missed[0]} is not applied",
            hint="env.py has to call context.run_migrations() on the database of DATABASE_URL, "
            "and to keep its versions in alembic_version",
            revision=missed[0],
        )
    elif error is None and seen.verdict is Verdict.UNKNOWN:
        error = MigrateError(
            Failure.UNREACHABLE,
            "the database could not be asked what the run left behind",
            hint="run this again: what is applied is not applied twice",
        )
    return failed(error, seen) if error else replace(seen, outcome=outcome)


def _up(
    settings: Settings,
    project: Project,
    connection: psycopg.Connection,
    progress: _Progress,
    say: Callable[[str], None],
) -> Outcome:
    # Once without the lock: the twentieth runner of a release need not queue for nothing.
    if not _plan(settings, project, history.read(connection)).revisions:
        return Outcome.NOTHING_TO_DO
    with migration_lock(connection, timeout=settings.lock_timeout, say=say):
        applied = history.read(connection)
        plan = _plan(settings, project, applied)
        if not plan.revisions:
            return Outcome.NOTHING_TO_DO
        history.ensure(connection)
        progress.planned = plan.revisions
        _run(settings, project, plan, applied.heads, progress, say)
        return Outcome.DONE


def _plan(settings: Settings, project: Project, applied: Applied) -> Plan:
    return decide(
        project.manifest,
        applied,
        settings.scope,
        nobody_runs_older=settings.nobody_runs_older,
    )


def _run(
    settings: Settings,
    project: Project,
    plan: Plan,
    expected_heads: frozenset[str],
    progress: _Progress,
    say: Callable[[str], None],
) -> None:
    """Hand the planned revisions to Alembic.

    Raises:
        MigrateError: ``migration-error``, with the revision and what it ran into.
    """
    targets = plan.targets(project.manifest)
    started = time.monotonic()

    def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterator[Any]:
        nonlocal started
        if frozenset(heads) != expected_heads:
            raise MigrateError(
                Failure.SETTINGS,
                "env.py keeps its versions elsewhere than in the alembic_version that the "
                "runner reads",
                hint="leave version_table, version_table_schema and another search_path or URL "
                "out of env.py",
            )
        for step in project.scripts._upgrade_revs(targets, heads):  # type: ignore[arg-type]
            name = progress.running = step.revision.revision
            started = time.monotonic()
            yield step
            # Only here has the revision's transaction ended.
            done = _applied(project, name, started)
            progress.applied[name] = done
            say(f"applied {done.id} ({done.phase}) in {done.seconds:.2f} s")
            progress.running = ""

    def on_version_apply(*, ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
        if step.up_revision_id is None or ctx.connection is None:
            raise RuntimeError("Alembic applied a step without a revision or a connection")
        try:
            history.record(
                ctx.connection,
                project.manifest.revisions[step.up_revision_id],
                seconds=round(time.monotonic() - started, 3),
                image=settings.image,
                checksum=project.checksum(step.up_revision_id),
            )
        except ProgrammingError:
            raise MigrateError(
                Failure.SETTINGS,
                "env.py works on another database or schema than DATABASE_URL names",
                hint="let env.py take its URL from DATABASE_URL or from sqlalchemy.url",
                revision=step.up_revision_id,
            ) from None

    _point_env_at(project, settings)
    environment = _environment(project, steps, on_version_apply)
    try:
        # What a revision prints is for people: stdout may have to be one line of JSON.
        with environment, redirect_stdout(sys.stderr):
            project.scripts.run_env()
    except MigrateError:
        raise
    # env.py and revisions are anybody's code: whatever they raise is their failure.
    except (Exception, SystemExit) as error:
        raise _migration_error(settings.url, progress.running, error) from error


def _environment(
    project: Project, steps: Callable[..., Any], on_version_apply: Callable[..., None]
) -> EnvironmentContext:
    """Make Alembic's own environment, with our callback and one transaction per revision added.

    ``configure`` is replaced on the instance: Alembic's module proxy knows its own class only.
    """
    environment = EnvironmentContext(
        project.config, project.scripts, fn=steps, destination_rev="heads"
    )
    theirs = environment.configure

    def configure(*args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they come
        callbacks = to_tuple(options.pop("on_version_apply", None), ())
        options["on_version_apply"] = (*callbacks, on_version_apply)
        options["transaction_per_migration"] = True
        theirs(*args, **options)

    environment.configure = configure  # type: ignore[method-assign]
    return environment


def _point_env_at(project: Project, settings: Settings) -> None:
    """Let an env.py find the direct URL, whether it reads the environment or the ini file.

    In the environment it stays as it was written: env.py may count on the driver it names. In
    the ini file's place goes psycopg's, which serves an async env.py as well as a sync one.
    """
    os.environ["DATABASE_URL"] = settings.written_url
    dialect_url = settings.url.replace("postgresql://", "postgresql+psycopg://", 1)
    project.config.set_main_option("sqlalchemy.url", dialect_url.replace("%", "%%"))


def _applied(project: Project, revision_id: str, started: float) -> AppliedRevision:
    seconds = round(time.monotonic() - started, 3)
    return AppliedRevision(revision_id, project.manifest.revisions[revision_id].phase, seconds)


def _look(settings: Settings, project: Project, connection: psycopg.Connection) -> Report:
    """Report what the database holds now, over a new connection where the old one broke."""
    try:
        return _seen(project, history.read(connection))
    except psycopg.Error:
        try:
            with _connect(replace(settings, connect_timeout=0.0), lambda _: None) as anew:
                return _seen(project, history.read(anew))
        except (MigrateError, psycopg.Error):
            return Report(Outcome.FAILED, judge(None))


def _seen(project: Project, applied: Applied) -> Report:
    difference = compare(project.manifest, applied)
    return Report(
        Outcome.FAILED,
        judge(difference),
        heads=tuple(sorted(applied.heads)),
        pending=dict(difference.pending),
        ahead=dict(difference.ahead),
    )


def _terminated(progress: _Progress) -> MigrateError:
    return MigrateError(
        Failure.TERMINATED,
        "the run was told to stop before it was done",
        hint="what was not finished is rolled back; run it again, with more time",
        revision=progress.running,
    )


def _connect(settings: Settings, say: Callable[[str], None]) -> psycopg.Connection:
    return database.connect(
        settings.url,
        timeout=settings.connect_timeout,
        application_name=f"tidegate migrate {os.uname().nodename}"[:63],
        say=say,
    )


def _migration_error(url: str, revision: str, error: BaseException) -> MigrateError:
    cause = getattr(error, "orig", None) or error
    words = " ".join(str(cause).split()) or type(cause).__name__
    where = f"revision {revision} failed" if revision else "env.py failed before any revision ran"
    return MigrateError(
        Failure.MIGRATION_ERROR,
        database.hide_password(url, f"{where}: {type(cause).__name__}: {words}"),
        hint="what its transaction held was rolled back (what it ran outside of one stays); "
        "mend the revision and release again"
        if revision
        else "nothing was applied; mend env.py and release again",
        revision=revision,
    )
