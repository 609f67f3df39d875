"""``tidegate migrate backfill``: list what is declared, show one of them, or run it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from tidegate.schema import Failure
from tidegate_migrate import database, project
from tidegate_migrate.backfill import declaration, table
from tidegate_migrate.backfill.preview import Preview, preview
from tidegate_migrate.backfill.progress import duration
from tidegate_migrate.backfill.run import Summary, run
from tidegate_migrate.backfill.screen import Json, Screen, screen
from tidegate_migrate.backfill.session import connect
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.settings import Settings


def backfill(
    settings: Settings,
    name: str | None,
    *,
    restart: bool = False,
    dry_run: bool = False,
    duty: float | None = None,
    max_active: int | None = None,
    max_lag: float | None = None,
    as_json: bool = False,
) -> None:
    """Run the backfill ``name``, or show it with ``dry_run``; without a name, list all.

    ``duty``, ``max_active`` and ``max_lag`` win over the declaration's when they are given.

    Raises:
        MigrateError: it could not be done; with ``as_json`` it is on stdout too.
    """
    out = screen(as_json=as_json)
    try:
        scripts = project.load(settings.config_file, settings.alembic).scripts
        folder = Path(scripts.dir) / declaration.FOLDER
        if name is None:
            _list(settings, folder, out)
            return
        declared = declaration.read(folder, name)
        pace, limits = declared.pace, declared.limits
        declared = replace(
            declared,
            pace=pace if duty is None else replace(pace, duty=duty),
            limits=replace(
                limits,
                max_active=limits.max_active if max_active is None else max_active,
                max_lag=limits.max_lag if max_lag is None else max_lag,
            ),
        )
        if dry_run:
            _tell_preview(preview(settings, declared, out), out)
        else:
            _tell_summary(run(settings, declared, restart=restart, screen=out), out)
    except KeyboardInterrupt:
        raise MigrateError(
            Failure.TERMINATED, "told to stop before it began", hint="run it again"
        ) from None
    except MigrateError as error:
        if isinstance(out, Json):
            out.event("failed", failure=error.failure, message=error.message, hint=error.hint)
        raise


def _list(settings: Settings, folder: Path, out: Screen) -> None:
    names = declaration.names(folder)
    with connect(settings, "list", out) as connection, database.errors_in_words():
        entries = {name: table.read(connection, name) for name in names}
    if isinstance(out, Json):
        listed = [
            {"name": name, **(asdict(entry) if entry else {})} for name, entry in entries.items()
        ]
        out.event("listed", backfills=listed)
        return
    if not names:
        print(f"no backfill is declared in {folder}")
    for name, entry in entries.items():
        print(f"{name:<{max(map(len, names))}}  {_state(entry)}")


def _state(entry: table.Entry | None) -> str:
    if entry is None:
        return "not begun"
    rows = f"{entry.rows_seen:,} rows, {entry.rows_changed:,} changed"
    if entry.finished_at:
        return f"finished {entry.finished_at:%Y-%m-%d %H:%M}  {rows}"
    return f"not finished  {rows}, last batch {entry.updated_at:%Y-%m-%d %H:%M:%S %Z}"


def _tell_preview(shown: Preview, out: Screen) -> None:
    if isinstance(out, Json):
        out.event("preview", **asdict(shown))
        return
    rows = f"about {shown.table_rows:,} rows" if shown.table_rows else "not analyzed yet"
    print(f"{shown.name}: table {shown.table}, {rows}\n\nthe end of a batch:")
    find, change = shown.statements
    print(f"{find}\n\nthe batch:\n{change}\n")
    print(f"its plan for the next thousand rows:\n{shown.plan}" if shown.plan else "no row is left")


def _tell_summary(summary: Summary, out: Screen) -> None:
    if isinstance(out, Json):
        out.event("finished", **asdict(summary))
    elif summary.before:
        print(f"{summary.name}: nothing to do, it was finished before (--restart does it again)")
    else:
        print(
            f"{summary.name}: done, {summary.rows_seen:,} rows, {summary.rows_changed:,} changed, "
            f"in {duration(summary.seconds)}"
        )
