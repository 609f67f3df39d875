"""SQL for the export of orders."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from orders.core.spreadsheet import neutral_sql
from orders.models import Order, User

_ISO: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


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
            # To the letter: COPY writes times as the session's settings have them.
            func.to_char(func.timezone("UTC", Order.created_at), _ISO).label("created_at"),
        )
        .join(User, User.id == Order.user_id, isouter=True)
        .order_by(Order.created_at, Order.id)
    )
    if owner is not None:
        rows = rows.where(Order.user_id == owner)
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    return str(rows.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
