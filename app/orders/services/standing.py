"""Whether those who were let in may stay."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Scope
from orders.repositories import api_keys, users
from orders.repositories.users import Standing


async def still_allowed(session: AsyncSession, principals: Collection[Principal]) -> set[Principal]:
    """Return those whose user is active and in the same role, and who have not been signed out."""
    standings = await users.standings(session, {each.user_id for each in principals})
    keys = await api_keys.good_among(
        session, {each.api_key_id for each in principals if each.api_key_id}
    )
    good = {key for key, scopes in keys.items() if Scope.ORDERS_READ in scopes}
    return {each for each in principals if _may_stay(each, standings.get(each.user_id), good)}


def _may_stay(
    principal: Principal, standing: Standing | None, good_keys: Collection[object]
) -> bool:
    if standing is None or standing.role != principal.role:
        return False
    if principal.api_key_id:
        return principal.api_key_id in good_keys
    return standing.token_version == principal.token_version
