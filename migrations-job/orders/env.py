"""Alembic's environment, plain: Tidegate's runner drives it unedited."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

from orders.models import Base

config = context.config
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
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
