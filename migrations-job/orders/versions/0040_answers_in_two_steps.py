"""Let an answer under an idempotency key have a last word: its payment is asked for after it."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0030"
depends_on = None
phase = "expand"


def upgrade() -> None:
    # Older images write final answers only, and take every one for that.
    op.add_column(
        "idempotency_keys",
        sa.Column("is_final", sa.Boolean(), server_default=sa.true(), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("idempotency_keys", "is_final")
