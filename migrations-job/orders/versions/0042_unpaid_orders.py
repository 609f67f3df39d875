"""Index the orders that nobody has paid for yet: the clock looks for those that are old."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
depends_on = None
phase = "expand"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_orders_unpaid",
            "orders",
            ["created_at"],
            postgresql_where=sa.text("status IN ('pending', 'payment_failed')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_orders_unpaid", "orders", postgresql_concurrently=True, if_exists=True)
