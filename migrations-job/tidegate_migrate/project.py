"""An Alembic project on disk: its configuration and the revisions it ships."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from tidegate.schema import Failure, Manifest, Phase, Revision
from tidegate_migrate.failure import MigrateError


@dataclass(frozen=True, slots=True)
class Project:
    """The files an image ships: Alembic's own view of them, and the manifest made from it."""

    config: Config
    scripts: ScriptDirectory
    manifest: Manifest

    def checksum(self, revision_id: str) -> str:
        """Return the SHA-256 of the revision's file, as the history keeps it."""
        script = self.scripts.get_revision(revision_id)
        return hashlib.sha256(Path(script.path).read_bytes()).hexdigest()


def load(config_file: Path) -> Project:
    """Read the project that an ``alembic.ini`` names.

    Raises:
        MigrateError: there is no such file, or the revisions in it do not load.
    """
    if not config_file.is_file():
        raise MigrateError(
            Failure.SETTINGS,
            f"there is no Alembic configuration at {config_file}",
            hint="name it with --config or ALEMBIC_CONFIG",
        )
    # What an env.py may look for of the command line, as Alembic's own would have it.
    options = Namespace(x=None, sql=False, tag=None, revision="heads", name="alembic")
    config = Config(str(config_file), cmd_opts=options)
    try:
        scripts = ScriptDirectory.from_config(config)
        # Alembic lists from the heads down; a manifest reads better from the base up.
        revisions = [_revision(scripts, script) for script in scripts.walk_revisions()][::-1]
    except MigrateError:
        raise
    # A revision is anybody's code; a broken graph is a KeyError of Alembic's.
    except (Exception, SystemExit) as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the revisions of {config_file} do not load: {type(error).__name__}: {error}",
            hint="run `alembic history` beside it and mend what it names",
        ) from error
    return Project(config, scripts, Manifest.of(revisions))


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
