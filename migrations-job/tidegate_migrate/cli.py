"""``tidegate migrate``: the command line of the runner. Each command imports what it needs."""

from __future__ import annotations

import gc
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.schema import Failure, Outcome, Report
from tidegate_migrate.arguments import parser
from tidegate_migrate.failure import EXIT_CODES, NOTHING_TO_DO, MigrateError
from tidegate_migrate.plan import Scope
from tidegate_migrate.settings import AlembicOptions, Settings
from tidegate_migrate.stdout import answering

if TYPE_CHECKING:
    from tidegate_migrate.lint.check import Classified
    from tidegate_migrate.live import Live
    from tidegate_migrate.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # What is imported stays: to look through it for garbage, now and at the end, takes a quarter
    # of a run that finds nothing to do.
    gc.disable()
    # Not a SystemExit: of those, env.py's and a revision's are caught as their failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = parser(_COMMANDS).parse_args(argv)
    try:
        with answering():
            return _run(arguments)
    finally:
        gc.freeze()


def _run(arguments: Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
        return code
    except MigrateError as error:
        return _fail(arguments, error)
    except KeyboardInterrupt:
        _stopped()
        return EXIT_CODES[Failure.TERMINATED]
    except Exception as error:
        return _fail(arguments, _unforeseen(error))


def _fail(arguments: Namespace, error: MigrateError) -> int:
    from tidegate_migrate.report import as_json, failed, tell_failure

    if getattr(arguments, "json", False):
        print(as_json(failed(error)))
    else:
        tell_failure("tidegate migrate", error.message, error.hint)
    return EXIT_CODES[error.failure]


def _unforeseen(error: Exception) -> MigrateError:
    """Show where a fault of our own is, and make it a failure like any other."""
    import traceback

    _say(_without_passwords("".join(traceback.format_exception(error))))
    return MigrateError(
        Failure.MIGRATION_ERROR,
        _without_passwords(f"Tidegate itself failed: {type(error).__name__}: {error}"),
        hint="what is applied stays; run `tidegate migrate status`, and report this with the "
        "traceback on stderr",
    )


def _up(arguments: Namespace) -> int:
    from tidegate_migrate import boundary, runner
    from tidegate_migrate.ending import Ending
    from tidegate_migrate.progress import Progress
    from tidegate_migrate.report import deliver, failed

    progress = Progress()
    live = _live(progress) if sys.stderr.isatty() else None

    def overtime() -> None:
        if live:
            live.close()
        told = failed(runner.terminated(progress.running))
        deliver(told, arguments.report, as_json=arguments.json)

    ending = Ending(_past_env(overtime))
    ending.listen()
    try:
        _check_report_path(arguments.report)
        with live.shown() if live else nullcontext():
            say = live.say if live else _say
            report = runner.up(_settings(arguments), say, ending, progress)
    except MigrateError as error:
        report = failed(error)
    except Exception as error:
        applied = tuple(progress.applied.values())
        report = replace(failed(_unforeseen(error)), applied=applied)
    ending.reporting()
    deliver(report, arguments.report, as_json=arguments.json)
    boundary.reached("report delivered")
    if report.failure:
        return EXIT_CODES[report.failure]
    return _code(arguments, report)


def _past_env(report: Callable[[], None]) -> Callable[[], None]:
    """Let a thread report on stdout, though what is printed goes to stderr while env.py runs."""
    stdout = os.dup(1)

    def past() -> None:
        with suppress(OSError), os.fdopen(stdout, "w") as ours, redirect_stdout(ours):
            report()
            sys.stdout.flush()

    return past


def _live(progress: Progress) -> Live:
    from tidegate_migrate.live import Live

    return Live(sys.stderr, progress)


def _code(arguments: Namespace, report: Report) -> int:
    idle = report.outcome is Outcome.NOTHING_TO_DO
    return NOTHING_TO_DO if idle and arguments.detailed_exitcode else 0


def _check_report_path(path: Path | None) -> None:
    """Find out before anything is migrated that the report would have no place."""
    if path and not path.parent.is_dir():
        raise MigrateError(
            Failure.SETTINGS,
            f"there is no folder {path.parent} for the report",
            hint="name a file in a folder that exists with --report or TIDEGATE_REPORT",
        )


def _plan(arguments: Namespace) -> int:
    from tidegate_migrate import plan_text
    from tidegate_migrate.planning import preview
    from tidegate_migrate.report import as_json
    from tidegate_migrate.screen import Style

    found = preview(_settings(arguments), _say)
    if arguments.json:
        _print(as_json(found.report, **plan_text.as_dict(found)))
    elif arguments.sql:
        _print(plan_text.sql(found))
    else:
        _print(plan_text.text(found, Style(sys.stdout)))
    if found.failure and arguments.detailed_exitcode:
        return EXIT_CODES[found.failure]
    return _code(arguments, found.report)


def _lint(arguments: Namespace) -> int:
    from tidegate_migrate.lint.findings import as_dicts, describe
    from tidegate_migrate.linting import lint_files, lint_pending
    from tidegate_migrate.report import as_json
    from tidegate_migrate.screen import Style

    if arguments.revisions or arguments.all or arguments.since:
        options = _alembic_options(arguments)
        linted = lint_files(arguments.config, options, arguments.revisions, arguments.since)
    else:
        linted = lint_pending(_settings(arguments), _say)
    if arguments.json:
        _print(as_json(linted.report, findings=as_dicts(linted.findings)))
    else:
        if linted.findings:
            _print(Style(sys.stdout).lines(describe(linted.findings)))
        print(linted.summary)
    return EXIT_CODES[linted.report.failure] if linted.report.failure else 0


def _wait(arguments: Namespace) -> int:
    from tidegate_migrate import waiting
    from tidegate_migrate.ending import Ending
    from tidegate_migrate.report import deliver, failed

    def say(report: Report) -> None:
        deliver(report, None, as_json=arguments.json, what="wait")

    ending = Ending(_stopped)
    ending.listen()
    frozen = failed(waiting.frozen(arguments.timeout))
    ending.leave_after(
        arguments.timeout + waiting.GRACE,
        _past_env(lambda: say(frozen)),
        EXIT_CODES[Failure.UNREACHABLE],
    )
    try:
        report = waiting.wait(_settings(arguments), arguments.timeout, _say)
    except MigrateError as error:
        report = failed(error)
    ending.reporting()
    say(report)
    return EXIT_CODES[report.failure] if report.failure else 0


def _status(arguments: Namespace) -> int:
    from tidegate_migrate import instances
    from tidegate_migrate.looking import opened
    from tidegate_migrate.report import as_json, show
    from tidegate_migrate.screen import Style, table

    with opened(_settings(arguments), _say) as at:
        report = at.report(at.read())
        running = instances.read(at.connection, at.place)
    if arguments.json:
        _print(as_json(report, instances=[each.as_dict() for each in running]))
        return 0
    show(report, as_json=False)
    if running:
        print(f"\n{table(Style(sys.stdout), instances.HEADINGS, instances.rows(running))}")
    else:
        print("no service process reports to this database what it runs")
    return 0


def _history(arguments: Namespace) -> int:
    from tidegate_migrate import history_rows
    from tidegate_migrate.report import as_json
    from tidegate_migrate.screen import Style, number, table

    found = history_rows.history(_settings(arguments), _say)
    if arguments.json:
        rows = [row.as_dict() for row in found.rows]
        _print(as_json(found.report, history=rows, without_row=found.without_row))
        return 0
    if found.rows:
        print(table(Style(sys.stdout), history_rows.HEADINGS, history_rows.cells(found.rows)))
    else:
        print("the history has no rows")
    if found.without_row:
        print(
            f"no row: {number(len(found.without_row), 'applied revision')}; "
            "`tidegate migrate stamp --adopt` writes them"
        )
    return 0


def _stamp(arguments: Namespace) -> int:
    from tidegate_migrate import adopting
    from tidegate_migrate.report import as_json
    from tidegate_migrate.screen import Style, number, table

    if not arguments.adopt:
        raise MigrateError(
            Failure.SETTINGS,
            "this writes rows of the history only, and --adopt says that you want them",
            hint="add --adopt; to move Alembic's own version without running anything, use "
            "`alembic stamp`",
        )

    def tell(revisions: Mapping[str, Classified]) -> None:
        if revisions and not arguments.json:
            print(
                table(Style(sys.stdout), adopting.HEADINGS, adopting.cells(revisions)), flush=True
            )

    settings = _settings(arguments, image=arguments.image)
    adopted = adopting.adopt(settings, _say, tell, dry_run=arguments.dry_run)
    if arguments.json:
        _print(as_json(adopted.report, adopted=adopting.as_dicts(adopted.revisions)))
    elif not adopted.revisions:
        print("every applied revision has its row")
    else:
        done = "would be written (--dry-run)" if arguments.dry_run else "written"
        print(f"{number(len(adopted.revisions), 'row')} {done}")
    return _code(arguments, adopted.report)


def _backfill(arguments: Namespace) -> int:
    from tidegate_migrate.backfill.command import backfill
    from tidegate_migrate.ending import Ending

    gc.enable()  # it may run for hours
    ending = Ending(lambda: None)
    ending.listen()
    try:
        backfill(
            _settings(arguments),
            arguments.name,
            restart=arguments.restart,
            dry_run=arguments.dry_run,
            duty=arguments.duty,
            max_active=arguments.max_active,
            max_lag=arguments.max_lag,
            as_json=arguments.json,
        )
    except MigrateError as error:
        if not arguments.json:  # else it is on stdout already, as the last event
            return _fail(arguments, error)
        return EXIT_CODES[error.failure]
    finally:
        ending.reporting()
    return 0


def _manifest(arguments: Namespace) -> int:
    from tidegate_migrate.manifest import describe

    manifest = describe(arguments.config, _alembic_options(arguments), arguments.version_table)
    text = manifest.to_json() + "\n"
    path: Path | None = arguments.output
    try:
        # An image is built from it: half of it must not pass for all.
        with open(path or 1, "w", encoding="utf-8", closefd=path is not None) as output:
            output.write(text)
    except OSError as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the manifest could not be written to {path or 'stdout'}: {error.strerror}",
            hint="name a file in a folder that exists with --output",
        ) from None
    return 0


_COMMANDS = {
    "up": _up,
    "plan": _plan,
    "lint": _lint,
    "wait": _wait,
    "status": _status,
    "history": _history,
    "stamp": _stamp,
    "backfill": _backfill,
    "manifest": _manifest,
}


def _settings(arguments: Namespace, image: str | None = None) -> Settings:
    from tidegate_migrate.database import direct_url, libpq_url

    written_url = direct_url(os.environ)
    given = vars(arguments)
    named = {
        name: given[name]
        for name in (
            "nobody_runs_older",
            "to",
            "lock_timeout",
            "ddl_lock_timeout",
            "deadline",
            "statement_timeout",
            "connect_timeout",
        )
        if name in given
    }
    return Settings(
        config_file=arguments.config,
        url=libpq_url(written_url),
        written_url=written_url,
        image=os.environ.get("TIDEGATE_IMAGE", "") if image is None else image,
        scope=Scope(given.get("phase", Scope.EXPAND)),
        alembic=_alembic_options(arguments),
        **named,
    )


def _alembic_options(arguments: Namespace) -> AlembicOptions:
    return AlembicOptions(arguments.section, tuple(arguments.x or _x_of_the_environment()))


def _x_of_the_environment() -> list[str]:
    import shlex

    try:
        return shlex.split(os.environ.get("TIDEGATE_ALEMBIC_X", ""))
    except ValueError as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"TIDEGATE_ALEMBIC_X does not read as a list of words: {error}",
            hint="separate them by spaces, and quote one that holds a space or a quote",
        ) from None


def _print(text: str) -> None:
    """Print what may hold SQL, and so anything that a revision has taken from its environment."""
    print(_without_passwords(text))


def _without_passwords(text: str) -> str:
    from tidegate_migrate.database import hide_password

    for name in ("DATABASE_URL", "DIRECT_URL"):
        with suppress(ValueError):  # one that does not parse is refused by whoever needs it
            text = hide_password(os.environ.get(name, ""), text)
    return text


def _stopped() -> None:
    _say("told to stop; nothing was changed")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
