"""Give orders an owner, versions and known states, and keep the answers of requests sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
depends_on = None
phase = "expand"
lint_ignore = {
    "add-constraint": "older images write no user_id, and no status but 'pending', its default",
}

_STATES = (
    "pending",
    "payment_pending",
    "payment_failed",
    "confirmed",
    "shipped",
    "delivered",
    "cancelled",
)


def upgrade() -> None:
    # Nullable for good: the orders from before have none, and one outlives its user.
    op.add_column("orders", sa.Column("user_id", sa.Uuid(), nullable=True))
    for table in ("orders", "products"):
        op.add_column(table, sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    # The rows that are there are looked at in 0005, which blocks nobody.
    op.create_foreign_key(
        op.f("fk_orders_user_id_users"),
        "orders",
        "users",
        ["user_id"],
        ["id"],
        ondelete="SET NULL",
        postgresql_not_valid=True,
    )
    op.create_check_constraint(
        op.f("ck_orders_status_known"),
        "orders",
        sa.column("status").in_([sa.literal_column(f"'{state}'") for state in _STATES]),
        postgresql_not_valid=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_idempotency_keys_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_constraint(op.f("ck_orders_status_known"), "orders", type_="check")
    op.drop_constraint(op.f("fk_orders_user_id_users"), "orders", type_="foreignkey")
    for table in ("products", "orders"):
        op.drop_column(table, "version")
    op.drop_column("orders", "user_id")
