"""Index what the clock looks for, refresh tokens that have expired, and the active admins."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
depends_on = None
phase = "expand"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_refresh_tokens_expires_at"),
            "refresh_tokens",
            ["expires_at"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_users_admins",
            "users",
            ["id"],
            postgresql_where=sa.text("role = 'admin' AND is_active"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_users_admins", "users", postgresql_concurrently=True, if_exists=True)
        op.drop_index(
            op.f("ix_refresh_tokens_expires_at"),
            "refresh_tokens",
            postgresql_concurrently=True,
            if_exists=True,
        )
