"""Create the queue: PgQueuer's tables, as its release 1.6 declares them.

Written down here and not asked of the library: a revision must make the same tables whatever is
installed. tests/orders/test_queue.py tells when another release wants others; what
`pgq upgrade --plan` prints goes into the next revision then.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0005"
depends_on = None
phase = "expand"

_STATUS = postgresql.ENUM(
    *("queued", "picked", "successful", "exception", "canceled", "deleted", "failed"),
    name="pgqueuer_status",
    create_type=False,
)

# The library compares the text of the function with its own, comments and all.
_FUNCTION = """
CREATE FUNCTION fn_pgqueuer_changed() RETURNS TRIGGER AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$ LANGUAGE plpgsql
"""

_TRIGGER = """
CREATE TRIGGER tg_pgqueuer_changed
AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgqueuer
EXECUTE FUNCTION fn_pgqueuer_changed()
"""


def upgrade() -> None:
    _STATUS.create(op.get_bind(), checkfirst=False)
    op.create_table(
        "pgqueuer",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue_manager_id", sa.Uuid()),
        *map(_time, ("created", "updated", "heartbeat", "execute_after")),
        sa.Column("status", _STATUS, nullable=False),
        sa.Column("entrypoint", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text()),
        sa.Column("payload", sa.LargeBinary()),
        sa.Column("headers", postgresql.JSONB()),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("slot", sa.BigInteger()),
    )
    op.create_table(
        "pgqueuer_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        _time("created"),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("status", _STATUS, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("entrypoint", sa.Text(), nullable=False),
        sa.Column("traceback", postgresql.JSONB()),
        sa.Column("aggregated", sa.Boolean(), server_default=sa.false()),
    )
    op.create_table(
        "pgqueuer_schedules",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("entrypoint", sa.Text(), nullable=False),
        *map(_time, ("heartbeat", "created", "updated", "next_run")),
        sa.Column("last_run", sa.DateTime(timezone=True)),
        sa.Column("status", _STATUS, server_default="queued"),
        sa.UniqueConstraint("expression", "entrypoint"),
    )
    op.create_table(
        "pgqueuer_statistics",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column(
            "created",
            sa.DateTime(timezone=True),
            server_default=sa.text("date_trunc('sec'::text, now())"),
            nullable=False,
        ),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", _STATUS, nullable=False),
        sa.Column("entrypoint", sa.Text(), nullable=False),
    )
    queued, picked = sa.text("status = 'queued'"), sa.text("status = 'picked'")
    _index("pgqueuer_ep_ea_idx", "entrypoint", "execute_after", where=queued)
    _index("pgqueuer_ep_prio_id_idx", "entrypoint", "priority DESC", "id", where=queued)
    _index("pgqueuer_priority_id_id1_idx", "priority", "id DESC", where=queued, include=["id"])
    _index("pgqueuer_updated_id_id1_idx", "updated", "id DESC", where=picked, include=["id"])
    _index("pgqueuer_picked_heartbeat_idx", "heartbeat", where=picked)
    _index(
        "pgqueuer_queue_manager_id_idx",
        "queue_manager_id",
        where=sa.text("queue_manager_id IS NOT NULL"),
    )
    _index(
        "pgqueuer_picked_slot_idx",
        *("entrypoint", "slot"),
        where=sa.text("status = 'picked' AND slot IS NOT NULL"),
        unique=True,
    )
    _index(
        "pgqueuer_unique_dedupe_key",
        "dedupe_key",
        where=sa.text(
            "status = ANY (ARRAY['queued'::pgqueuer_status, 'picked'::pgqueuer_status]) "
            "AND dedupe_key IS NOT NULL"
        ),
        unique=True,
    )
    _index("pgqueuer_log_created", "created", table="pgqueuer_log")
    _index("pgqueuer_log_status", "status", table="pgqueuer_log")
    _index("pgqueuer_log_job_id_status", "job_id", "created DESC", table="pgqueuer_log")
    _index(
        "pgqueuer_log_not_aggregated",
        "(1)",
        table="pgqueuer_log",
        where=sa.text("NOT aggregated"),
    )
    _index(
        "pgqueuer_statistics_unique_count",
        "priority",
        "date_trunc('sec'::text, timezone('UTC'::text, created))",
        *("status", "entrypoint"),
        table="pgqueuer_statistics",
        unique=True,
    )
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    for table in ("pgqueuer_statistics", "pgqueuer_schedules", "pgqueuer_log", "pgqueuer"):
        op.drop_table(table)
    op.execute("DROP FUNCTION fn_pgqueuer_changed()")
    op.execute("DROP TYPE pgqueuer_status")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def _index(
    name: str,
    *columns: str,
    table: str = "pgqueuer",
    where: sa.TextClause | None = None,
    include: list[str] | None = None,
    unique: bool = False,
) -> None:
    op.create_index(
        name,
        table,
        [sa.text(column) for column in columns],
        unique=unique,
        postgresql_where=where,
        postgresql_include=include,
    )
