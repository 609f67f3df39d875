"""``tidegate migrate``: the command line of the runner."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tidegate.schema import Failure
from tidegate_migrate.database import direct_url, libpq_url
from tidegate_migrate.failure import EXIT_CODES, MigrateError
from tidegate_migrate.plan import Scope
from tidegate_migrate.settings import Settings

_EPILOG = """\
environment:
  DATABASE_URL   postgresql://user:password@host:5432/database
  DIRECT_URL     the same past a pooler; wins over DATABASE_URL when both are set

exit codes:
  0 done, or nothing to do    3 lock time-out
  1 a migration failed        4 incompatible with what the database holds
  2 settings                  5 database unreachable
                            143 terminated
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    command = {"up": _up, "status": _status, "manifest": _manifest}[arguments.command]
    try:
        return command(arguments)
    except MigrateError as error:
        print(f"tidegate migrate: {error.message}; {error.hint}", file=sys.stderr)
        return EXIT_CODES[error.failure]


def _up(arguments: argparse.Namespace) -> int:
    from tidegate_migrate import runner
    from tidegate_migrate.report import deliver, failed

    signal.signal(signal.SIGTERM, _terminate)
    try:
        _check_report_path(arguments.report)
        report = runner.up(_settings(arguments), _say)
    except MigrateError as error:
        report = failed(error)
    deliver(report, arguments.report, as_json=arguments.json)
    return EXIT_CODES[report.failure] if report.failure else 0


def _check_report_path(path: Path | None) -> None:
    """Find out before anything is migrated that the report would have no place."""
    if path and not path.parent.is_dir():
        raise MigrateError(
            Failure.SETTINGS,
            f"there is no folder {path.parent} for the report",
            hint="name a file in a folder that exists with --report or TIDEGATE_REPORT",
        )


def _status(arguments: argparse.Namespace) -> int:
    from tidegate_migrate import runner
    from tidegate_migrate.report import show

    show(runner.status(_settings(arguments), _say), as_json=arguments.json)
    return 0


def _manifest(arguments: argparse.Namespace) -> int:
    from tidegate_migrate.project import load

    text = load(arguments.config).manifest.to_json() + "\n"
    if arguments.output is None:
        print(text, end="")
        return 0
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the manifest could not be written to {arguments.output}: {error.strerror}",
            hint="name a file in a folder that exists with --output",
        ) from None
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    scope = Scope(getattr(arguments, "phase", Scope.EXPAND))
    written_url = direct_url(os.environ)
    return Settings(
        config_file=arguments.config,
        url=libpq_url(written_url),
        written_url=written_url,
        image=os.environ.get("TIDEGATE_IMAGE", ""),
        scope=scope,
        nobody_runs_older=getattr(arguments, "nobody_runs_older", False),
        lock_timeout=getattr(arguments, "lock_timeout", 0.0),
        connect_timeout=arguments.connect_timeout,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate migrate",
        description="Apply an Alembic history to PostgreSQL, safely beside a running service.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="apply pending revisions and report")
    status = commands.add_parser("status", help="say where the database stands; change nothing")
    manifest = commands.add_parser(
        "manifest",
        help="list the shipped revisions and phases as JSON, for the service to judge by",
    )
    for command in (up, status, manifest):
        command.add_argument(
            "--config",
            type=Path,
            default=os.environ.get("ALEMBIC_CONFIG", "alembic.ini"),
            metavar="FILE",
            help="the project's alembic.ini (default: ALEMBIC_CONFIG, else ./alembic.ini)",
        )
    for command in (up, status):
        command.add_argument(
            "--connect-timeout",
            type=_seconds,
            default=os.environ.get("TIDEGATE_CONNECT_TIMEOUT", "60"),
            metavar="SECONDS",
            help="how long to wait for a database that is not up yet (default: 60)",
        )
        command.add_argument("--json", action="store_true", help="print the report as JSON")
    up.add_argument(
        "--phase",
        choices=[scope.value for scope in Scope],
        default=Scope.EXPAND.value,
        help="which phases to apply (default: expand; an empty database gets all)",
    )
    up.add_argument(
        "--nobody-runs-older",
        action="store_true",
        help="your word that no older image runs: contract revisions may be applied",
    )
    up.add_argument(
        "--lock-timeout",
        type=_seconds,
        default=os.environ.get("TIDEGATE_LOCK_TIMEOUT", "60"),
        metavar="SECONDS",
        help="how long to wait for another runner to end (default: 60)",
    )
    up.add_argument(
        "--report",
        type=Path,
        default=os.environ.get("TIDEGATE_REPORT"),
        metavar="FILE",
        help="where the JSON report goes (default: the container's termination message)",
    )
    manifest.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write it (default: print it)"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: let it clean up
    raise KeyboardInterrupt  # psycopg cancels its query on one
