"""Small Alembic projects, written to disk for a test."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

SYNC_ENV = """
from alembic import context
from sqlalchemy import engine_from_config, pool

engine = engine_from_config(
    context.config.get_section("alembic"), prefix="sqlalchemy.", poolclass=pool.NullPool
)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

ASYNC_ENV = """
import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = async_engine_from_config(
        context.config.get_section("alembic"), prefix="sqlalchemy.", poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)

asyncio.run(main())
"""


class AlembicProject:
    """A project as `alembic init` leaves it, plus revisions of raw SQL."""

    def __init__(self, directory: Path, env: str = SYNC_ENV) -> None:
        self.config = directory / "alembic.ini"
        self._versions = directory / "versions"
        self._versions.mkdir(parents=True)
        self.config.write_text("[alembic]\nscript_location = %(here)s\n")
        (directory / "env.py").write_text(env)

    def revision(
        self, name: str, *down: str, sql: str = "SELECT 1", phase: str = "expand"
    ) -> AlembicProject:
        """Add a revision that runs ``sql``."""
        return self.written(name, *down, body=f"op.execute({sql!r})", phase=phase)

    def written(
        self, name: str, *down: str, body: str, phase: str = "expand", head: str = ""
    ) -> AlembicProject:
        """Add a revision with this body of ``upgrade()``, and ``head`` beside its id."""
        down_revision: object = down if len(down) > 1 else (down[0] if down else None)
        (self._versions / f"{name}.py").write_text(
            f"from alembic import op\n{head}\n"
            f"revision = {name!r}\ndown_revision = {down_revision!r}\nphase = {phase!r}\n"
            "def upgrade():\n" + indent(body, "    ") + "\n"
        )
        return self
