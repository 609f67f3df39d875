"""Note when the money of a cancelled order was given back."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
depends_on = None
phase = "expand"


def upgrade() -> None:
    op.add_column("payments", sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("payments", "voided_at")
