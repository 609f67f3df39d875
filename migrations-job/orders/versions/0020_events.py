"""Create the events of orders and the tickets that open their stream; notify who listens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0013"
depends_on = None
phase = "expand"
lint_ignore = {"add-trigger": "they refuse nothing: all they do is notify"}

# Without a payload: identical notifications of one transaction are sent as one.
_ORDER_EVENTS = """
CREATE FUNCTION notify_order_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('order_events', '');
    RETURN NULL;
END $$
"""
_ACCESS_CHANGED = """
CREATE FUNCTION notify_access_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('access_changed', '');
    RETURN NULL;
END $$
"""
_TRIGGERS = (
    ("order_events", "AFTER INSERT", "notify_order_events"),
    ("users", "AFTER UPDATE OF is_active, role, token_version OR DELETE", "notify_access_changed"),
    ("api_keys", "AFTER UPDATE OF revoked_at OR DELETE", "notify_access_changed"),
)


def upgrade() -> None:
    op.create_table(
        "order_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        # Ids are given before the commit, in another order: readers go by transactions.
        sa.Column(
            "transaction",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
        # No foreign keys: what is told of an order is kept for a while, and checked by nobody.
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_events")),
    )
    op.create_index(op.f("ix_order_events_transaction"), "order_events", ["transaction"])
    op.create_index(op.f("ix_order_events_at"), "order_events", ["at"])
    op.create_table(
        "tickets",
        sa.Column("ticket_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_tickets_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ticket_hash", name=op.f("pk_tickets")),
    )
    op.create_index(op.f("ix_tickets_user_id"), "tickets", ["user_id"])
    op.create_index(op.f("ix_tickets_expires_at"), "tickets", ["expires_at"])
    op.execute(_ORDER_EVENTS)
    op.execute(_ACCESS_CHANGED)
    for table, when, function in _TRIGGERS:
        op.execute(
            f"CREATE TRIGGER {function} {when} ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


def downgrade() -> None:
    for table, _, function in reversed(_TRIGGERS):
        op.execute(f"DROP TRIGGER {function} ON {table}")
    for function in ("notify_access_changed", "notify_order_events"):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_table("tickets")
    op.drop_table("order_events")
