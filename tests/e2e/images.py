"""Checkouts with one more revision: what an application's next release looks like."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.release import IMAGE_INPUTS, ROOT
from tests.revisions import HEAD


def checkout_with_revision(folder: Path, name: str, statement: str, phase: str = "expand") -> Path:
    """Copy what the Dockerfile needs, add a revision above the newest, and return the copy."""
    folder.mkdir()
    for entry in (*IMAGE_INPUTS, ".dockerignore"):
        source, target = ROOT / entry, folder / entry
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    (folder / "migrations-job" / "orders" / "versions" / f"{name}.py").write_text(
        f"from alembic import op\n\n"
        f'revision = "{name}"\ndown_revision = "{HEAD}"\nphase = "{phase}"\n\n\n'
        f"def upgrade() -> None:\n    op.execute({statement!r})\n"
    )
    return folder
