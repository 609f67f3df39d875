"""The database past a pooler: for what belongs to a connection, as LISTEN does."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from orders.core.settings import OrdersSettings
from tidegate import asyncpg_url

_KNOWN: Final = {"host", "port", "sslmode", "ssl"}


def connect_arguments(settings: OrdersSettings) -> dict[str, Any]:
    """Return what asyncpg connects with: ``DIRECT_URL``'s, else ``DATABASE_URL``'s.

    ``DIRECT_URL`` is the migrations' as well, whose driver takes options that asyncpg does not:
    these are passed over.
    """
    if settings.direct_url is None:
        url = asyncpg_url(settings.database_url.get_secret_value())
    else:
        direct = make_url(settings.direct_url.get_secret_value())
        url = asyncpg_url(
            direct.difference_update_query(direct.query.keys() - _KNOWN).render_as_string(
                hide_password=False
            )
        )
    _, arguments = PGDialect_asyncpg().create_connect_args(url)  # type: ignore[no-untyped-call]
    return dict(arguments)
