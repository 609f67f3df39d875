"""SQL for the export of orders."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from orders.core.spreadsheet import neutral_sql
from orders.models import Order, User


def query(owner: UUID | None) -> str:
    """Return the query of a user's orders, or of all, the oldest first, for COPY.

    COPY takes no parameters, so the one there is stands in the text: of a UUID there is one way to
    write it.
    """
    rows = (
        select(
            Order.id,
            Order.user_id,
            neutral_sql(User.email).label("customer_email"),
            neutral_sql(User.name).label("customer_name"),
            Order.status,
            Order.total_cents,
            Order.created_at,  # in UTC and ISO 8601, as the session of an export has it
        )
        .join(User, User.id == Order.user_id, isouter=True)
        .order_by(Order.created_at, Order.id)
    )
    if owner is not None:
        rows = rows.where(Order.user_id == owner)
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    return str(rows.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
