"""An Alembic project on disk: its configuration and the revisions it ships."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, to_tuple

from tidegate.schema import Failure, Manifest, Phase, Revision
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.settings import NO_OPTIONS, AlembicOptions
from tidegate_migrate.stdout import kept_clean


@dataclass(frozen=True, slots=True)
class Project:
    """The files an image ships: Alembic's own view of them, and the manifest made from it.

    ``statement_timeouts`` holds the seconds (0: none) of the revisions that declare their own,
    ``lint_ignored`` the lint rules that a revision switches off and why, as JSON.
    """

    config: Config
    scripts: ScriptDirectory
    manifest: Manifest
    statement_timeouts: Mapping[str, float]
    lint_ignored: Mapping[str, str]

    def checksum(self, revision_id: str) -> str:
        """Return the SHA-256 of the revision's file, as the history keeps it."""
        script = self.scripts.get_revision(revision_id)
        return hashlib.sha256(Path(script.path).read_bytes()).hexdigest()

    def named(self, name: str) -> frozenset[str]:
        """Return the revisions that a name stands for: one, or all of a label's or of ``heads``.

        It may be short.

        Raises:
            MigrateError: ``settings``: no revision is called that.
        """
        try:
            return frozenset(each.revision for each in self.scripts.get_revisions(name) if each)
        except CommandError as error:
            raise MigrateError(
                Failure.SETTINGS,
                f"there is no revision {name!r}: {error}",
                hint="name one that `alembic history` lists",
            ) from None

    def ancestry(self, name: str) -> frozenset[str]:
        """Return a revision and all that it builds on; for the name see :meth:`named`."""
        open_ends = list(self.named(name))
        found: set[str] = set()
        while open_ends:
            current = open_ends.pop()
            if current not in found:
                found.add(current)
                open_ends.extend(self.manifest.revisions[current].down)
        return frozenset(found)


def load(config_file: Path, options: AlembicOptions = NO_OPTIONS) -> Project:
    """Read the project that an ``alembic.ini`` names, or the ``pyproject.toml`` beside it.

    Raises:
        MigrateError: there is no such file, or the revisions in it do not load.
    """
    ini, toml = config_file, config_file.with_name("pyproject.toml")
    if ini == toml:
        ini = toml.with_name("alembic.ini")
    if not ini.is_file() and not _configures_alembic(toml):
        raise MigrateError(
            Failure.SETTINGS,
            f"there is no Alembic configuration at {config_file}",
            hint="name it with --config or ALEMBIC_CONFIG",
        )
    # env.py configures its logging from the ini file, unless there is none.
    config = Config(
        ini if ini.is_file() else None,
        toml,
        ini_section=options.name,
        cmd_opts=_as_of_alembic_upgrade(config_file, options),
    )
    try:
        with kept_clean():
            scripts = ScriptDirectory.from_config(config)
            if not scripts.get_heads():
                scripts = _as_env_says(config)
            # Alembic lists from the heads down; a manifest reads better from the base up.
            shipped = list(scripts.walk_revisions())[::-1]
            manifest = Manifest.of(_revision(scripts, script) for script in shipped)
            timeouts = {script.revision: _statement_timeout(script) for script in shipped}
    except (MigrateError, KeyboardInterrupt):
        raise
    # A revision is anybody's code; a broken graph is a KeyError of Alembic's.
    except BaseException as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the revisions of {config_file} do not load: {type(error).__name__}: {error}",
            hint="run `alembic history` beside it and mend what it names",
        ) from error
    ignored = {
        script.revision: json.dumps(reasons, sort_keys=True)
        for script in shipped
        if (reasons := _lint_ignored(script))
    }
    declared = {name: seconds for name, seconds in timeouts.items() if seconds is not None}
    return Project(config, scripts, manifest, declared, ignored)


def _as_of_alembic_upgrade(config_file: Path, options: AlembicOptions) -> Namespace:
    """Return what an env.py would find of the command line ``alembic upgrade heads``."""
    return Namespace(
        config=[str(config_file)],
        name=options.name,
        x=list(options.x) or None,
        raiseerr=False,
        quiet=False,
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]),
        revision="heads",
        sql=False,
        tag=None,
    )


def _configures_alembic(toml: Path) -> bool:
    return toml.is_file() and "[tool.alembic]" in toml.read_text("utf-8")


def _as_env_says(config: Config) -> ScriptDirectory:
    """Return the scripts with the ``version_locations`` that env.py sets, should it do so.

    It is asked in Alembic's offline mode. One that cannot be is left as it is: so is a project
    that has no revisions yet.
    """
    from alembic.runtime.environment import EnvironmentContext

    scripts = ScriptDirectory.from_config(config)
    asked = EnvironmentContext(
        config, scripts, as_sql=True, fn=lambda *_: (), destination_rev="heads"
    )
    with asked, kept_clean(), suppress(Exception, SystemExit):
        scripts.run_env()
    found = ScriptDirectory.from_config(config)
    found.version_locations = scripts.version_locations
    return found


def _revision(scripts: ScriptDirectory, script: Script) -> Revision:
    declared = getattr(script.module, "phase", Phase.EXPAND)
    try:
        phase = Phase(declared)
    except ValueError:
        raise MigrateError(
            Failure.SETTINGS,
            f"revision {script.revision} declares phase = {declared!r}",
            hint='write phase = "expand" or phase = "contract" in its file',
        ) from None
    # depends_on may hold labels and shortened ids; get_revisions() makes them whole.
    names = (*to_tuple(script.down_revision, ()), *to_tuple(script.dependencies, ()))
    down = {below.revision for below in scripts.get_revisions(names) if below}
    return Revision(script.revision, phase, tuple(sorted(down)))


def _lint_ignored(script: Script) -> dict[str, str]:
    """Return the rules that are switched off with a reason; the rest is lint's to name."""
    declared = getattr(script.module, "lint_ignore", None)
    return {
        rule: reason
        for rule, reason in (declared.items() if isinstance(declared, dict) else ())
        if isinstance(rule, str) and isinstance(reason, str)
    }


def _statement_timeout(script: Script) -> float | None:
    declared = getattr(script.module, "statement_timeout", None)
    if declared is None:
        return None
    if declared == "off":
        return 0.0
    if isinstance(declared, int | float) and not isinstance(declared, bool) and declared > 0:
        return float(declared)
    raise MigrateError(
        Failure.SETTINGS,
        f"revision {script.revision} declares statement_timeout = {declared!r}",
        hint='write a number of seconds above 0, or "off", in its file',
    )
