"""The command line of ``tidegate migrate``; light, because every command builds it."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tidegate_migrate.backfill import arguments as backfill_arguments
from tidegate_migrate.failure import NOTHING_TO_DO
from tidegate_migrate.plan import Scope

Run = Callable[[argparse.Namespace], int]

_EPILOG: Final = """\
environment:
  DATABASE_URL   postgresql://user:password@host:5432/database
  DIRECT_URL     the same past a pooler; wins over DATABASE_URL when both are set
  NO_COLOR       set to anything: no colours

exit codes:
  0 done, or nothing to do    3 lock time-out                       6 lint
  1 a migration failed        4 incompatible with what is there   143 terminated
  2 settings                  5 database unreachable
 10 nothing to do, with --detailed-exitcode
"""
_WORDS: Final = {
    "up": "apply pending revisions and report",
    "plan": "show what up would do: revisions, SQL, locks, lint, rollback; change nothing",
    "lint": "judge pending revisions, or files without a database; fail on an error",
    "wait": "wait until this image may serve on the schema",
    "status": "say where the database stands and who runs what; change nothing",
    "history": "list what was applied, when, how long it took, by which image",
    "stamp": "--adopt: give what Alembic has applied its rows in the history",
    "backfill": "update a big table in small batches, beside a running service",
    "manifest": "list the shipped revisions and phases as JSON, for the service to judge by",
}


def parser(commands: Mapping[str, Run]) -> argparse.ArgumentParser:
    """Return the parser; ``run`` of what it parses is the command's own function."""
    whole = argparse.ArgumentParser(
        prog="tidegate migrate",
        description="Apply an Alembic history to PostgreSQL, safely beside a running service.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run in commands.items():
        command = added.add_parser(
            name,
            help=_WORDS[name],
            description=_WORDS[name],
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        _add_project(command)
        if name != "manifest":
            command.add_argument("--json", action="store_true", help="print JSON, for a machine")
        if name not in {"manifest", "wait"}:
            _add_seconds(
                command, "connect-timeout", 60, "how long to wait for a database that is not up yet"
            )
        _OPTIONS.get(name, _no_more)(command)
    return whole


def _no_more(_: argparse.ArgumentParser) -> None:
    """What has no options of its own."""


def _add_project(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("ALEMBIC_CONFIG", "alembic.ini"),
        metavar="FILE",
        help="the project's alembic.ini or pyproject.toml (default: ALEMBIC_CONFIG, else "
        "./alembic.ini)",
    )
    command.add_argument(
        "-n",
        "--name",
        dest="section",
        default=os.environ.get("TIDEGATE_ALEMBIC_NAME", "alembic"),
        metavar="SECTION",
        help="the section of the ini file, as for alembic (default: TIDEGATE_ALEMBIC_NAME, else "
        "alembic)",
    )
    command.add_argument(
        "-x",
        action="append",
        metavar="KEY=VALUE",
        help="what env.py asks for with context.get_x_argument(), as for alembic; repeatable "
        "(default: TIDEGATE_ALEMBIC_X, in words as of a shell)",
    )


def _add_scope(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--phase",
        choices=[scope.value for scope in Scope],
        default=Scope.EXPAND.value,
        help="which phases to apply (default: expand; an empty database gets all)",
    )
    command.add_argument(
        "--to",
        default="",
        metavar="REVISION",
        help="stop there: apply only this revision and what it builds on",
    )
    command.add_argument(
        "--nobody-runs-older",
        action="store_true",
        help="your word that no older image runs: contract revisions may be applied, and lint does "
        "not stop an expand one for what it would do to those who run",
    )


def _add_up(up: argparse.ArgumentParser) -> None:
    _add_scope(up)
    _add_lock_timeout(up, "another runner")
    _add_seconds(
        up,
        "ddl-lock-timeout",
        2,
        "how long one statement may queue for a lock, with everybody behind it, before it is "
        "taken back and tried again",
        least=0.01,
    )
    _add_seconds(up, "deadline", 120, "how long to try for the locks of one revision")
    _add_seconds(
        up,
        "statement-timeout",
        30,
        "how long a statement may run, 0 for ever; a revision's file may declare another",
    )
    up.add_argument(
        "--report",
        type=Path,
        default=os.environ.get("TIDEGATE_REPORT"),
        metavar="FILE",
        help="where the JSON report goes (default: the container's termination message)",
    )
    _add_detailed_exitcode(up)


def _add_plan(plan: argparse.ArgumentParser) -> None:
    _add_scope(plan)
    plan.add_argument(
        "--sql", action="store_true", help="print only the SQL that up would run now, for review"
    )
    _add_detailed_exitcode(plan, "; with 4 or 6 when up would fail with that")


def _add_lint(lint: argparse.ArgumentParser) -> None:
    lint.add_argument(
        "revisions",
        nargs="*",
        metavar="REVISION",
        help="revisions, or their files, to lint without a database (default: what is pending)",
    )
    lint.add_argument(
        "--all", action="store_true", help="lint every shipped revision, without a database"
    )
    lint.add_argument(
        "--since",
        default="",
        metavar="REVISION",
        help="lint what comes after this one, without a database",
    )


def _add_wait(wait: argparse.ArgumentParser) -> None:
    _add_seconds(wait, "timeout", 300, "how long to wait", variable="TIDEGATE_WAIT_TIMEOUT")


def _add_stamp(stamp: argparse.ArgumentParser) -> None:
    stamp.add_argument(
        "--adopt",
        action="store_true",
        help="write the missing rows; a revision that lint finds destructive counts as contract",
    )
    stamp.add_argument(
        "--dry-run", action="store_true", help="show the rows and write none of them"
    )
    stamp.add_argument(
        "--image", default="adopted", help="which image the rows name (default: adopted)"
    )
    _add_lock_timeout(stamp, "another runner")
    _add_detailed_exitcode(stamp)


def _add_backfill(backfill: argparse.ArgumentParser) -> None:
    backfill_arguments.add(backfill)
    _add_lock_timeout(backfill, "another run of it")


def _add_manifest(manifest: argparse.ArgumentParser) -> None:
    manifest.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write it (default: print it)"
    )
    manifest.add_argument(
        "--version-table",
        metavar="[SCHEMA.]TABLE",
        help="where env.py keeps its versions (default: what env.py says offline)",
    )


_OPTIONS: Final = {
    "up": _add_up,
    "plan": _add_plan,
    "lint": _add_lint,
    "wait": _add_wait,
    "stamp": _add_stamp,
    "backfill": _add_backfill,
    "manifest": _add_manifest,
}


def _add_lock_timeout(command: argparse.ArgumentParser, whom: str) -> None:
    _add_seconds(command, "lock-timeout", 60, f"how long to wait for {whom} to end")


def _add_detailed_exitcode(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help=f"exit with {NOTHING_TO_DO} instead of 0 when there is nothing to do{more}",
    )


def _add_seconds(
    command: argparse.ArgumentParser,
    name: str,
    default: int,
    words: str,
    *,
    variable: str = "",
    least: float = 0,
) -> None:
    """Add an option in seconds, with an environment variable: the one of the same name."""
    variable = variable or f"TIDEGATE_{name.replace('-', '_').upper()}"
    command.add_argument(
        f"--{name}",
        type=partial(_seconds, least=least),
        default=os.environ.get(variable) or str(default),
        metavar="SECONDS",
        help=f"{words} (default: {variable}, else {default})",
    )


def _seconds(text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, {least:g} or more")
    return value
