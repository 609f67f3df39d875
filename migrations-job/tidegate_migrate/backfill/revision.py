"""A backfill inside a revision, for a table that is small enough for a release to wait for it."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import context

from tidegate.schema import Failure
from tidegate_migrate.backfill import RETURNS, declaration
from tidegate_migrate.backfill.run import run
from tidegate_migrate.backfill.screen import Lines
from tidegate_migrate.database import libpq_url
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.settings import Settings


def backfill(name: str) -> None:
    """Run ``backfills/NAME.toml`` to its end, on a connection of its own::

        def upgrade():
            op.add_column("users", sa.Column("email_lower", sa.Text))
            with op.get_context().autocommit_block():
                backfill("email_lower")

    A revision that is cut short begins again, and the backfill goes on where it was. One that was
    taken back and is applied anew begins its backfill anew: what that had filled is gone.

    Raises:
        MigrateError: the backfill could not be finished, or what the revision did before it is
            not committed yet.
    """
    migration = context.get_context()
    if migration.as_sql:  # offline, where a revision is written as SQL: batches follow the rows
        migration.impl.static_output(f"-- here: tidegate migrate backfill {name}")
        return
    connection = context.get_bind()
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        raise MigrateError(
            Failure.SETTINGS,
            f"the backfill {name} runs beside the revision's open transaction, and would wait for "
            "what that has locked",
            hint="call it within `with op.get_context().autocommit_block():`",
        )
    url = connection.engine.url.render_as_string(hide_password=False)
    settings = Settings(Path(), libpq_url(url), url)
    folder = Path(context.script.dir) / declaration.FOLDER
    anew = migration.opts.get(RETURNS, False)
    run(settings, declaration.read(folder, name), restart=anew, screen=Lines(sys.stderr))
