"""Looks at a project for the runner, in a process apart: its revisions, its env.py, its SQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from tidegate.schema import Failure, Manifest
from tidegate_migrate import environment
from tidegate_migrate.apart import Apart, EndedError, serve
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.looking import changed_by, look, wanted
from tidegate_migrate.place import Place
from tidegate_migrate.project import Project, load
from tidegate_migrate.settings import Settings

if TYPE_CHECKING:
    from tidegate_migrate.lint.findings import Finding


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a project ships. ``wanted`` is what ``--to`` asks for at most, ``None`` for all."""

    manifest: Manifest
    wanted: frozenset[str] | None


class Scout:
    """Loads a project as soon as it is made, and tells of it what is asked for.

    Each question is one of :func:`_work`'s; what is raised there is raised here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apart = Apart(partial(_work, settings))

    def shipped(self) -> Shipped:
        """Return what the project ships.

        Raises:
            MigrateError: ``settings``: it does not load, or has no revision to stop at.
        """
        shipped: Shipped = self._ask("shipped")
        return shipped

    def look(self) -> Place | None:
        """Let env.py say where it keeps its versions; see :func:`tidegate_migrate.looking.look`.

        Raises:
            MigrateError: env.py fails, or works in several places or in none; ``lock-timeout``: it
                waits for somebody.
        """
        place: Place | None = self._ask("look", within=self._settings.deadline)
        return place

    def lint(self, revisions: Collection[str], server_version: int) -> tuple[Finding, ...]:
        """Lint the revisions that are to run next."""
        findings: tuple[Finding, ...] = self._ask("lint", revisions, server_version)
        return findings

    def changed(self) -> frozenset[str] | None:
        """Return the tables that the revisions change; ``None`` where nobody can tell."""
        names: frozenset[str] | None = self._ask("changed")
        return names

    def __enter__(self) -> Self:
        """Have it for a block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let it go."""
        self._apart.__exit__(kind)

    def _ask(self, name: str, *arguments: object, within: float | None = None) -> Any:  # noqa: ANN401
        try:
            return self._apart.ask(name, *arguments, within=within)
        except TimeoutError:
            self._apart.kill()
            raise waits_for_somebody(within or 0) from None
        except EndedError as ended:
            raise MigrateError(
                Failure.MIGRATION_ERROR,
                f"the process that loads env.py and the revisions has failed: {ended}",
                hint="look what it printed last; nothing was applied",
            ) from None


def _work(settings: Settings, pipe: Connection) -> None:
    loaded: Project | MigrateError
    try:
        loaded = load(settings.config_file, settings.alembic)
        environment.point_at(loaded, settings)
    except MigrateError as error:
        loaded = error

    def project() -> Project:
        if isinstance(loaded, MigrateError):
            raise loaded
        return loaded

    def linted(revisions: Collection[str], server_version: int) -> tuple[Finding, ...]:
        from tidegate_migrate.lint.check import lint

        return lint(project(), revisions, server_version)

    serve(
        pipe,
        {
            "shipped": lambda: Shipped(project().manifest, wanted(project(), settings)),
            "look": lambda: look(project(), settings),
            "lint": linted,
            "changed": lambda: changed_by(project()),
        },
    )


def waits_for_somebody(seconds: float) -> MigrateError:
    """What is to be said of an env.py that comes to no end, before any revision."""
    return MigrateError(
        Failure.LOCK_TIMEOUT,
        f"env.py has not come to its migrations within {seconds:g} s: it waits, for a lock of its "
        "own, say",
        hint="look whom it waits for (pg_stat_activity shows its connection), let that end, then "
        "run this again",
    )
