"""Drives a project's own, unedited ``env.py`` through Alembic's ``EnvironmentContext``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.util import to_tuple

from tidegate.schema import Failure
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.place import Place, find_schema
from tidegate_migrate.project import Project
from tidegate_migrate.session import verbatim
from tidegate_migrate.settings import Settings
from tidegate_migrate.stdout import kept_clean

Steps = Callable[[tuple[str, ...], MigrationContext], Iterable[Any]]

_CONNECT_TIMEOUT: Final = "10"  # seconds, of libpq's drivers, where nobody says otherwise


def set_up(settings: Settings) -> None:
    """Let an env.py that reads the environment find the direct URL there.

    It stays as it was written: env.py may count on the driver that it names.
    """
    os.environ["DATABASE_URL"] = settings.written_url
    os.environ.setdefault("PGCONNECT_TIMEOUT", _CONNECT_TIMEOUT)
    # Of a database in SQL_ASCII, psycopg would give bytes for texts.
    os.environ.setdefault("PGCLIENTENCODING", "UTF8")


def point_at(project: Project, settings: Settings) -> None:
    """Let an env.py that reads the ini file find the direct URL there.

    The driver stays the one that the ini file names; where it names none, it is psycopg's, which
    serves an async env.py as well as a sync one.
    """
    ini, section = project.config.file_config, project.config.config_ini_section
    named = ini.get(section, "sqlalchemy.url", raw=True, fallback="").partition("://")[0]
    dialect = named if named.startswith("postgresql+") else "postgresql+psycopg"
    if settings.written_url.startswith(f"{dialect}://"):
        url = settings.written_url
    else:
        url = settings.url.replace("postgresql", dialect, 1)
        if dialect == "postgresql+asyncpg":
            url = url.replace("sslmode=", "ssl=", 1)  # libpq's word; asyncpg calls it ssl
    project.config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))


def look(project: Project) -> Place | None:
    """Learn where env.py keeps its versions; ``None`` when it does not run migrations at all.

    Whatever env.py raises is passed on.

    Raises:
        MigrateError: ``settings``: it has no schema to work in, or migrates several places.
    """
    found: set[tuple[str | None, str, str, str]] = set()

    def steps(_: tuple[str, ...], context: MigrationContext) -> Sequence[Any]:
        if context.connection is not None:
            query = find_schema(context.version_table, _schema(context))
            schema, database, role = verbatim(context.connection, query).one()
            found.add((schema, context.version_table, database, role))
        return ()

    _drive(project, steps, configured=_read_no_versions, dont_mutate=True)
    if len(found) > 1:
        places = ", ".join(
            sorted({f"{database}: {schema}.{t}" for schema, t, database, _ in found})
        )
        raise MigrateError(
            Failure.SETTINGS,
            f"env.py migrates several places in one run ({places})",
            hint="let env.py choose one (by an environment variable, say), and run this for each",
        )
    for schema, version_table, _, role in found:
        if schema is None:
            raise MigrateError(
                Failure.SETTINGS,
                "env.py's connection has no schema to work in: none of its search_path exists",
                hint="create the schema first, or set search_path for the role or the database",
            )
        return Place(schema, version_table, role)
    return None


def look_offline(project: Project, configured: Callable[[MigrationContext], None]) -> None:
    """Run env.py as ``alembic upgrade --sql`` does, without a database and without revisions."""
    _drive(project, lambda *_: (), configured=configured, as_sql=True)


def run(
    project: Project,
    steps: Steps,
    *,
    configured: Callable[[MigrationContext], None],
    on_version_apply: Callable[..., None],
) -> None:
    """Run env.py with ``steps`` as what it is to apply, one transaction for each.

    ``configured`` is called with the context as soon as env.py has made it. Whatever env.py and
    the revisions raise is passed on.
    """
    _drive(project, steps, configured=configured, on_version_apply=on_version_apply)


def _drive(
    project: Project,
    steps: Steps,
    *,
    configured: Callable[[MigrationContext], None] = lambda _: None,
    on_version_apply: Callable[..., None] | None = None,
    **options: bool,
) -> None:
    """``configure`` is replaced on the instance: Alembic's proxy knows its own class only."""
    environment = EnvironmentContext(
        project.config,
        project.scripts,
        fn=steps,
        destination_rev="heads",
        **options,
    )
    theirs = environment.configure

    def configure(*args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they come
        callbacks = to_tuple(options.pop("on_version_apply", None), ())
        options["on_version_apply"] = (*callbacks, *to_tuple(on_version_apply, ()))
        options["transaction_per_migration"] = True
        theirs(*args, **options)
        configured(environment.get_context())

    environment.configure = configure  # type: ignore[method-assign]
    with environment, kept_clean():
        project.scripts.run_env()


def _read_no_versions(context: MigrationContext) -> None:
    """Which they are is not asked here, and somebody may keep their table locked."""
    context.get_current_heads = lambda: ()  # type: ignore[method-assign]


def _schema(context: MigrationContext) -> str | None:
    """Return the version table's schema as the connection will write it."""
    schema = context.version_table_schema
    if context.connection is None:
        return schema
    translated = context.connection.get_execution_options().get("schema_translate_map") or {}
    return translated.get(schema, schema)
