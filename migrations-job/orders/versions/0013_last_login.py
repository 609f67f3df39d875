"""Note when a user last signed in."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
depends_on = None
phase = "expand"


def upgrade() -> None:
    op.add_column("users", sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "last_login_at")
