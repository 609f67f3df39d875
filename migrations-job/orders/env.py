"""Alembic's environment, plain: Tidegate's runner drives it unedited."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

from orders.models import Base

config = context.config


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """The queue's tables are its library's; there are no models of them to compare with."""
    return kind != "table" or not (name or "").startswith("pgqueuer")


url = config.get_main_option("sqlalchemy.url") or os.environ["DATABASE_URL"].replace(
    "postgresql://", "postgresql+psycopg://", 1
)

if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=Base.metadata, include_name=is_ours
        )
        with context.begin_transaction():
            context.run_migrations()
