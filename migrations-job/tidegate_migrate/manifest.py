"""What an image ships, for the service to judge by: its revisions, and where versions are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.schema import Failure, Manifest
from tidegate_migrate import environment
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.place import VERSION_TABLE
from tidegate_migrate.project import Project, load
from tidegate_migrate.settings import AlembicOptions


def describe(config_file: Path, options: AlembicOptions, version_table: str | None) -> Manifest:
    """Read the project; without ``version_table``, ask env.py for it, in Alembic's offline mode.

    Raises:
        MigrateError: the project does not load, or env.py speaks of a version table and cannot
            be asked for it here.
    """
    project = load(config_file, options)
    if version_table is None:
        version_table = _ask(project)
    return replace(project.manifest, version_table=version_table)


def _ask(project: Project) -> str:
    """Return ``schema.table``, ``table``, or "" for Alembic's default."""
    said: list[tuple[str | None, str]] = []
    try:
        environment.look_offline(project, lambda context: said.append(_names(context)))
    # env.py is anybody's code, and where an image is built it lacks what it runs with.
    except (Exception, SystemExit) as error:
        if "version_table" not in Path(project.scripts.env_py_location).read_text("utf-8"):
            return ""
        raise MigrateError(
            Failure.SETTINGS,
            "env.py speaks of a version_table, and cannot be asked for it here: "
            f"{type(error).__name__}: {error}",
            hint="say it with --version-table [SCHEMA.]TABLE",
        ) from error
    schema, table = said[0] if said else (None, VERSION_TABLE)
    if schema is None:
        return "" if table == VERSION_TABLE else table
    return f"{schema}.{table}"


def _names(context: Any) -> tuple[str | None, str]:  # noqa: ANN401 - Alembic's MigrationContext
    return context.version_table_schema, context.version_table
