"""Check the constraints of 0004 against what is stored, and index the ways to look for orders."""

from alembic import op

revision = "0005"
down_revision = "0004"
depends_on = None
phase = "expand"

_INDEXES = (
    ("orders", ["user_id", "created_at", "id"]),
    ("orders", ["created_at", "id"]),
    ("order_lines", ["product_id"]),
)


def upgrade() -> None:
    for constraint in ("fk_orders_user_id_users", "ck_orders_status_known"):
        op.execute(f"ALTER TABLE orders VALIDATE CONSTRAINT {constraint}")
    with op.get_context().autocommit_block():
        for table, columns in _INDEXES:
            op.create_index(
                _name(table, columns),
                table,
                columns,
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table, columns in _INDEXES:
            op.drop_index(
                _name(table, columns), table, postgresql_concurrently=True, if_exists=True
            )


def _name(table: str, columns: list[str]) -> str:
    return op.f(f"ix_{table}_{'_'.join(columns)}")
