"""Create files: what a storage holds, and to whom it belongs."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0020"
depends_on = None
phase = "expand"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), server_default="arriving", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("media_type", sa.Text(), server_default="", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.CheckConstraint(
            "state IN ('arriving', 'stored', 'leaving')", name=op.f("ck_files_state_known")
        ),
        sa.CheckConstraint(
            "state <> 'stored' OR sha256 IS NOT NULL", name=op.f("ck_files_stored_is_whole")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_files_user_id_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    # One user's files, the latest first; and those whose content has to go.
    op.create_index(
        op.f("ix_files_user_id_created_at_id"), "files", ["user_id", "created_at", "id"]
    )
    op.create_index(
        "ix_files_to_clear",
        "files",
        ["created_at"],
        postgresql_where=sa.text("state <> 'stored' OR user_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("files")
