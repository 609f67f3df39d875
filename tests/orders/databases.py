"""Databases with the service's tables: migrated once, then copied."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg.sql import SQL, Identifier


def migrate(url: str, config: Path) -> None:
    """Bring the database to the newest revision, in this process and by Alembic alone."""
    alembic = Config(str(config))
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    alembic.set_main_option("sqlalchemy.url", driver.replace("%", "%%"))
    command.upgrade(alembic, "heads")


def copy_database(url: str, template: str, name: str) -> str:
    """Copy a database that nobody is connected to; return the copy's URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        # File by file: with what PostgreSQL has cached for the first connection.
        copy = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(Identifier(name), Identifier(template)))
    return url.replace("/postgres?", f"/{name}?")
